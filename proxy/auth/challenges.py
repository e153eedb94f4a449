"""What a caller is told when it is not believed or not allowed: RFC 6750 §3 and RFC 9728 §5.1. Pure."""

from collections.abc import Sequence

from proxy import errors
from proxy.auth.codes import STATUS, AuthCode, Fault
from proxy.errors import Refusal

HEADER = b"www-authenticate"
RETRY_AFTER_S = 5
_SAFE = frozenset(chr(c) for c in (0x20, 0x21, *range(0x23, 0x5C), *range(0x5D, 0x7F)))
# The caller sent an acceptable form of nothing: RFC 6750 §3.1 wants no error code then.
_WITHOUT_ERROR = frozenset({AuthCode.MISSING, AuthCode.SCHEME})


class Challenges:
    """The challenges of one server. `scopes` are those that any access needs."""

    __slots__ = ("_metadata_url", "_scopes")

    def __init__(self, metadata_url: str, scopes: Sequence[str] = ()) -> None:
        self._metadata_url = metadata_url
        self._scopes = tuple(scopes)

    def missing(self, scopes: Sequence[str] | None = None) -> bytes:
        """Say that no usable credential was sent."""
        return self._render(self._scopes if scopes is None else scopes)

    def invalid(self, error: str, description: str) -> bytes:
        """Say that a credential was sent and proves nothing."""
        return self._render(self._scopes, error, description)

    def insufficient(self, scopes: Sequence[str], description: str = "") -> bytes:
        """Say that the credential is good, and the operation needs all of `scopes`."""
        return self._render(scopes, "insufficient_scope", description)

    def _render(self, scopes: Sequence[str], error: str = "", description: str = "") -> bytes:
        parts = [f'error="{error}"'] if error else []
        if description:
            parts.append(f'error_description="{_describe(description)}"')
        if scopes:
            parts.append(f'scope="{_quotable(" ".join(scopes))}"')
        parts.append(f'resource_metadata="{_quotable(self._metadata_url)}"')
        return f"Bearer {', '.join(parts)}".encode("ascii")

    def refusal(self, fault: Fault) -> Refusal:
        """Turn a fault of authentication into the answer, with the challenge that belongs to it."""
        status = STATUS[fault.code]
        if status == 503:
            retry = ((b"retry-after", b"%d" % RETRY_AFTER_S),)
            return Refusal(fault.code, status, errors.UNAVAILABLE, fault.reason, retry)
        if status == 403:
            return Refusal(fault.code, status, errors.FORBIDDEN, fault.reason)
        return Refusal(fault.code, status, errors.UNAUTHENTICATED, fault.reason, ((HEADER, self._challenge(fault)),))

    def _challenge(self, fault: Fault) -> bytes:
        if fault.code in _WITHOUT_ERROR:
            return self.missing()
        error = "invalid_request" if STATUS[fault.code] == 400 else "invalid_token"
        return self.invalid(error, fault.reason)


def _quotable(text: str) -> str:
    return "".join(c if c in _SAFE else "?" for c in text)


def _describe(text: str) -> str:
    """Clients look for `scope=` with an unanchored pattern: a description never holds an equals sign."""
    return _quotable(text).replace("=", " ")
