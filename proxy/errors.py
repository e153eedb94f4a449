"""Every way to say no.

Refusal                         a value, never an exception: code, HTTP status, JSON-RPC code, sentence
├── wire.*       400 …          the request itself is not acceptable            (proxy/wire)
├── auth.*       400 401 403 503  no credential, or one that proves nothing     (proxy/auth/codes)
├── authz.*      200 … 404      proven, but not allowed                         (proxy/authorize/decision)
├── session.*    400 404        the legacy session is not the caller's          (proxy/sessions)
├── task.*       400            tasks for a client that takes none              (proxy/tasks_binding)
├── route.*      404 503        no such server, or it cannot be reached now     (proxy/pipeline)
├── audit.*      503            the row cannot be made durable                  (proxy/executor)
├── limit.*      413 429 503    too large, too fast, too many                   (proxy/pipeline)
├── proxy.*      500            a defect of ours                                (proxy/pipeline)
└── upstream.*   502 503 504    the server did not answer as it must            (proxy/executor)

Our own JSON-RPC codes lie outside -32768…-32000 (research/mcp.md §3.1); the specification's keep their numbers.
"""

from dataclasses import dataclass, field

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNAUTHENTICATED = -31001
FORBIDDEN = -31003
SESSION_UNKNOWN = -32001
UNAVAILABLE = -31503
TIMED_OUT = -31504
BAD_GATEWAY = -31502
TOO_MANY = -31429
TOO_LARGE = -31413


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is not answered as asked.

    `code` is stable and documented in docs/problems.md; `reason` is the sentence that the row and the caller get;
    `headers` (lower-case names) go to the client, e.g. the RFC 6750 challenge or Retry-After. `told` are the code and
    sentence for the caller where it must not learn the row's (SPEC R7).
    """

    code: str
    status: int
    jsonrpc_code: int
    reason: str
    headers: tuple[tuple[bytes, bytes], ...] = ()
    data: dict[str, object] | None = field(default=None)
    told: tuple[str, str] | None = None

    def answer(self) -> tuple[str, str]:
        """Return the code and the sentence that the caller gets."""
        return self.told or (self.code, self.reason)
