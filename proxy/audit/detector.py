"""Known credential formats and the names under which secrets travel. Pure.

`may_hold_secret` is the cheap test that every payload takes (2 µs a kilobyte, linear: Rust's regex by way of
jsonschema-rs); only what it suspects is walked.
"""

import re
from functools import lru_cache, partial
from typing import Final

import jsonschema_rs

MASK: Final = "[redacted]"
MOST_QUOTED: Final = 8
LONGEST_NAME: Final = 80


def _any_case(word: str) -> str:
    return "".join(f"[{char.upper()}{char}]" if char.isalpha() else char for char in word)


_MARKS: Final = (
    *(
        "-----BEGIN ",
        "eyJ",
        "AKIA",
        "ASIA",
        "gh[pousr]_",
        "github_pat_",
        "glpat-",
        "xox[abeoprs]-",
        "[rs]k_(?:live|test)_",
    ),
    *("whsec_", "(?:^|[^A-Za-z])sk-", "AIza", "ya29[.]", "hv[sb][.]", "npm_", "pypi-", "SG[.]", "dop_v1_", "shpat_"),
    *("lin_api_", "://[^/]*@"),
    *(_any_case(each) for each in ("bearer ", "basic ", "token ", "passw", "passphr", "passc", "secret", "authoriz")),
    *(_any_case(each) for each in ("credential", "connection_s", "connection-s", "connections", "cookie")),
    *(_any_case(each) for each in ("api_key", "api-key", "apikey", "private_key", "private-key", "privatekey")),
    *(
        "[A-Za-z][_-]" + _any_case("token"),
        "(?:access|refresh|id|auth|api|bearer|session|security)" + _any_case("token"),
    ),
    *("(?:Access|Refresh|Id|Auth|Api|Bearer|Session|Security)Token",),
)
_PATTERN: Final = {"not": {"pattern": "|".join(_MARKS)}}
_INNOCENT: Final = jsonschema_rs.validator_for(_PATTERN, pattern_options=jsonschema_rs.RegexOptions()).is_valid

_PEM: Final = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?:.*?-----END [A-Z ]*PRIVATE KEY-----|.*)", re.DOTALL)
_LONG: Final = re.compile(r"[A-Za-z0-9_.-]{16,}")
_FORMATS: Final = re.compile(
    r"""(?<![A-Za-z0-9])(?:
      eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)*                       # JWT, JWE
    | (?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])                   # AWS key id
    | gh[pousr]_[A-Za-z0-9]{20,} | github_pat_\w{20,} | glpat-[\w-]{16,}
    | xox[abeoprs]-[\w-]{10,}                                    # Slack
    | [rs]k_(?:live|test)_\w{10,} | whsec_\w{16,}                # Stripe
    | sk-[A-Za-z0-9_-]{20,}                                      # OpenAI, Anthropic
    | AIza[\w-]{30,} | ya29\.[\w-]{20,}                          # Google
    | hv[sb]\.[\w-]{20,}                                         # Vault
    | npm_[A-Za-z0-9]{30,} | pypi-[\w-]{30,}
    | SG\.[\w-]{16,}\.[\w-]{16,}                                 # SendGrid
    | dop_v1_[a-f0-9]{40,} | shpat_[a-f0-9]{20,} | lin_api_\w{20,}
    )""",
    re.VERBOSE,
)
_SCHEME: Final = re.compile(r"\b(Bearer|Basic|Token)(\s+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(://[^\s:@/\"'\\]{0,200}:)[^\s@/\"'\\]{1,500}(@)")
_SECRET_NAME: Final = re.compile(
    r"""(?:^|[_\-.\ ]|(?<=[a-z])(?=[A-Z]))(?:
      pass(?:word|wd|phrase|code)|secret(?:[_-]?(?:key|access[_-]?key))?|client[_-]?secret|api[_-]?key|private[_-]?key
    | (?:access|refresh|id|auth|api|bearer|session|security)[_-]?token|authorization|credentials?|connection[_-]?string
    | set-cookie|cookie)$""",
    re.IGNORECASE | re.VERBOSE,
)
_ASSIGNED: Final = re.compile(
    r"""(?<![A-Za-z0-9_-])([A-Za-z0-9_-]{3,80})((?:\\*["'])?\s{0,8}[:=]\s{0,8})"""
    r"""(?:(\\*["'])((?:(?!\3).)+)(\3|\Z)|[^\s"'&;,}\]\\]+)""",
    re.DOTALL,
)


def may_hold_secret(text: str) -> bool:
    """Say whether a text, JSON or not, holds a mark of any known secret; False is certain, True is a suspicion."""
    return not _INNOCENT(text)


def names_secret(key: str) -> bool:
    """Say whether a member of that name holds a secret, such as `password`, `dbPassword`, `X-Api-Key`."""
    return _ends_like_a_secret(key[-LONGEST_NAME:])


@lru_cache(4096)
def _ends_like_a_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def mask_secrets(text: str, depth: int = 0) -> str:
    """Return the text with every credential in it replaced; also in JSON, headers and assignments inside the text."""
    if not may_hold_secret(text):
        return text
    if depth > MOST_QUOTED:
        return MASK
    text = _LONG.sub(_mask_formats, _PEM.sub(MASK, text))
    text = _SCHEME.sub(rf"\1\2{MASK}", text)
    text = _USERINFO.sub(rf"\1{MASK}\2", text)
    return _ASSIGNED.sub(partial(_mask_value, depth), text)


def _mask_formats(found: re.Match[str]) -> str:
    return _FORMATS.sub(MASK, found[0])


def _mask_value(depth: int, found: re.Match[str]) -> str:
    quote, inside, end = found[3] or "", found[4] or "", found[5] or ""
    if names_secret(found[1]):
        return f"{found[1]}{found[2]}{quote}{MASK}{end}"
    return f"{found[1]}{found[2]}{quote}{mask_secrets(inside, depth + 1)}{end}" if quote else found[0]
