"""Known credential formats and the names under which secrets travel. Pure.

`may_hold_secret` is the cheap test that every payload takes; only what it suspects is walked.
"""

import re
from typing import Final

MASK: Final = "[redacted]"

_MARKERS: Final = tuple(
    marker.encode()
    for marker in (
        *("-----begin ", "eyj", "akia", "asia", "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_", "glpat-", "xox"),
        *(
            "sk-",
            "sk_live",
            "sk_test",
            "rk_live",
            "rk_test",
            "whsec_",
            "aiza",
            "ya29.",
            "hvs.",
            "hvb.",
            "npm_",
            "pypi-",
        ),
        *("sg.", "dop_v1", "shpat_", "lin_api_", "bearer ", "basic ", "token ", "://"),
        *(
            "passw",
            "passp",
            "passc",
            "secret",
            "api_key",
            "api-key",
            "apikey",
            "private_key",
            "private-key",
            "privatekey",
        ),
        *("_token", "-token", "accesstoken", "refreshtoken", "idtoken", "authtoken", "apitoken", "bearertoken"),
        *("sessiontoken", "securitytoken", "authorization", "credential", "connection_string", "connection-string"),
        *("connectionstring", "cookie"),
    )
)
_FORMATS: Final = re.compile(
    r"""
      -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----(?:.*?-----END\ [A-Z ]*PRIVATE\ KEY-----|.*)   # PEM, even if cut short
    | \beyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*                     # JWT, JWE
    | \b(?:AKIA|ASIA)[A-Z0-9]{16}\b                              # AWS key id
    | \bgh[pousr]_[A-Za-z0-9]{20,}
    | \bgithub_pat_\w{20,}
    | \bglpat-[\w-]{16,}
    | \bxox[abeoprs]-[\w-]{10,}                                  # Slack
    | \b[rs]k_(?:live|test)_\w{10,} | \bwhsec_\w{16,}            # Stripe
    | \bsk-[A-Za-z0-9_-]{20,}                                    # OpenAI, Anthropic
    | \bAIza[\w-]{30,} | \bya29\.[\w-]{20,}                      # Google
    | \bhv[sb]\.[\w-]{20,}                                       # Vault
    | \bnpm_[A-Za-z0-9]{30,} | \bpypi-[\w-]{30,}
    | \bSG\.[\w-]{16,}\.[\w-]{16,}                               # SendGrid
    | \bdop_v1_[a-f0-9]{40,} | \bshpat_[a-f0-9]{20,} | \blin_api_\w{20,}
    """,
    re.VERBOSE | re.DOTALL,
)
_SCHEME: Final = re.compile(r"\b(Bearer|Basic|Token)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_USERINFO: Final = re.compile(
    r"(\b[a-z][a-z0-9+.-]{1,20}://[^\s:@/\"'\\]{0,200}:)[^\s@/\"'\\]{1,500}(@)", re.IGNORECASE
)
_NAMES: Final = (
    r"pass(?:word|wd|phrase|code)|secret(?:[_-]?(?:key|access[_-]?key))?|client[_-]?secret|api[_-]?key|apikey|private[_-]?key"
    r"|(?:access|refresh|id|auth|api|bearer|session|security)[_-]?token|authorization|credentials?|connection[_-]?string|set-cookie|cookie"
)
_SECRET_NAME: Final = re.compile(rf"(?:^|[_\-. ]|(?<=[a-z])(?=[A-Z]))(?:{_NAMES})$", re.IGNORECASE)
_ASSIGNED: Final = re.compile(
    rf"""((?:\b|_)(?:{_NAMES})(?:\\*["'])?\s*[:=]\s*)(?:(\\*["'])(?:(?!\2).)+\2|[^\s"'&;,}}\]\\]+)""", re.IGNORECASE
)


def may_hold_secret(encoded: bytes) -> bool:
    """Say whether JSON bytes hold a mark of any known secret; False is certain, True is a suspicion."""
    lower = encoded.lower()
    return any(marker in lower for marker in _MARKERS)


def names_secret(key: str) -> bool:
    """Say whether a member of that name holds a secret, such as `password`, `dbPassword`, `X-Api-Key`."""
    return _SECRET_NAME.search(key) is not None


def mask_secrets(text: str) -> str:
    """Return the text with every credential in it replaced; also in JSON, headers and assignments inside the text."""
    text = _FORMATS.sub(MASK, text)
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    text = _USERINFO.sub(rf"\1{MASK}\2", text)
    return _ASSIGNED.sub(_assigned, text)


def _assigned(found: re.Match[str]) -> str:
    quote = found[2] or ""
    return f"{found[1]}{quote}{MASK}{quote}"
