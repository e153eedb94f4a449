"""Known credential formats and the names under which secrets travel. Pure.

`may_hold_secret` is the cheap test that every payload takes (2 µs a kilobyte, linear: Rust's regex by way of
jsonschema-rs); only what it suspects is walked.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import jsonschema_rs

MASK: Final = "[redacted]"
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
    *("whsec_", "sk-[A-Za-z0-9_-]{20}", "AIza", "ya29[.]", "hv[sb][.]", "npm_", "pypi-", "SG[.]", "dop_v1_", "shpat_"),
    *("lin_api_", "://[^/]*@"),
    *(_any_case(each) + "(?: |%20)" for each in ("bearer", "basic", "token")),
    *(_any_case(each) for each in ("passw", "passphr", "passc", "secret", "authoriz")),
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
_ESCAPES: Final = r"(?:(?:\\|%5[Cc])(?:[bfnrt]|u[0-9A-Fa-f]{4}|x[0-9A-Fa-f]{2})|%[0-9A-Fa-f]{2}|[\[;][0-9]{1,3}m)"
"""Of JSON in text, of URLs, of terminals: their letters do not belong to the word that follows."""
_ESCAPE: Final = re.compile(_ESCAPES)
_ESCAPE_AT_END: Final = re.compile(_ESCAPES + r"\Z")
_WORD_AT_END: Final = re.compile(r"[A-Za-z0-9_]\Z")
_LONGEST_ESCAPE: Final = 8
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
_SCHEME: Final = re.compile(r"(Bearer|Basic|Token)((?:\s|%20)+)[A-Za-z0-9._~+/=-]{8,}", re.IGNORECASE)
_USERINFO: Final = re.compile(r"(://[^\s:@/\"'\\]{0,200}:)[^\s/\"'\\]{1,500}(@)")
_SECRET_NAME: Final = re.compile(
    r"""(?:
      pass(?:word|wd|phrase|code)|secret(?:[_-]?(?:key|access[_-]?key))?|client[_-]?secret|api[_-]?key|private[_-]?key
    | (?:access|refresh|id|auth|api|bearer|session|security)[_-]?token|authorization|credentials?|connection[_-]?string
    | set-cookie|cookie)[\]:\ ]{0,2}$""",
    re.IGNORECASE | re.VERBOSE,
)
_NAMED: Final = re.compile(
    r"""(?<![A-Za-z0-9_-])([A-Za-z0-9_-]{3,80}+)
        (?:\\*["'\]]|%2[27]|%5D)?(?:\s|%20){0,8}+(:=|=>|[:=]|%3[AD])(?:\s|%20){0,8}+(?:\[\s{0,8}+(?=\\*["']))?""",
    re.IGNORECASE | re.VERBOSE,
)
_VALUE: Final = re.compile(
    r"""(\\*["'])(?:(?!\1)(?:\\+["']|.))+(\1|\Z)
      | \[redacted]
      | (?![{\[](?:[\s"'\\}\]]|\Z))(?:{[\w-]{1,20}})?[^\s"'&;,}\]\\]+""",
    re.DOTALL | re.VERBOSE,
)
_REST_OF_LINE: Final = re.compile(r"""[^\r\n"'\\]+""")
_PAIRED: Final = re.compile(
    r"""(?:\\*["'])?([A-Za-z0-9_.-]{3,80})(?:\\*["'])?(?:[\s,]|\\+[nrt]){1,40}
        (?:\\*["'])?value(?:\\*["'])?\s{0,8}[:=]\s{0,8}""",
    re.VERBOSE,
)
_HEADERS: Final = ("authorization", "cookie")
_NAMING: Final = ("name", "key")


def may_hold_secret(text: str) -> bool:
    """Say whether a text, JSON or not, holds a mark of any known secret; False is certain, True is a suspicion."""
    return not _INNOCENT(text)


def names_secret(key: str) -> bool:
    """Say whether a member of that name holds a secret, such as `password`, `dbPassword`, `X-Api-Key`."""
    return _ends_like_a_secret(key[-LONGEST_NAME:])


def value_is_secret(members: Mapping[str, object]) -> bool:
    """Say whether the `value` of a pair is what its `name` or `key` says, as environments and headers are listed."""
    names = (members.get(each) for each in _NAMING)
    return "value" in members and any(isinstance(name, str) and names_secret(name) for name in names)


@lru_cache(4096)
def _ends_like_a_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def mask_secrets(text: str) -> str:
    """Return the text with every credential in it replaced; also in JSON, headers and assignments inside the text."""
    if not may_hold_secret(text):
        return text
    text = _LONG.sub(_mask_formats, _PEM.sub(MASK, text))
    text = _SCHEME.sub(_mask_scheme, text)
    text = _USERINFO.sub(rf"\1{MASK}\2", text)
    return _mask_named(text)


def _mask_formats(found: re.Match[str]) -> str:
    """Mask in a run of characters, which may begin with the letters of an escape, or only look so."""
    run, start = found[0], found.start()
    escape = _ESCAPE.match(found.string, start - 1) if start else None
    if escape is not None:
        letters = escape.end() - start
        run = run[:letters] + _FORMATS.sub(MASK, run[letters:])
    return _FORMATS.sub(MASK, run)


def _mask_scheme(found: re.Match[str]) -> str:
    before = found.string[max(0, found.start() - _LONGEST_ESCAPE) : found.start()]
    is_word = _WORD_AT_END.search(before) is None or _ESCAPE_AT_END.search(before) is not None
    return f"{found[1]}{found[2]}{MASK}" if is_word else found[0]


def _mask_named(text: str) -> str:
    """Mask what is assigned to names of secrets; a value of another name may hold one itself."""
    shown: list[str] = []
    at = kept = 0
    while (named := _NAMED.search(text, at)) is not None:
        at = named.end()
        value = _secret_after(named)
        if value is not None:
            quote, end = (value[1] or "", value[2] or "") if value.re is _VALUE else ("", "")
            shown += text[kept : value.start()], quote, MASK, end
            at = kept = value.end()
    return "".join((*shown, text[kept:]))


def _secret_after(named: re.Match[str]) -> re.Match[str] | None:
    """Return the value that a name and its separator lead to, if it is a secret."""
    name, text, at = named[1].lower(), named.string, named.end()
    if names_secret(name):
        is_header = named[2] == ":" and name.endswith(_HEADERS)
        return (is_header and _REST_OF_LINE.match(text, at)) or _VALUE.match(text, at)
    pair = _PAIRED.match(text, at) if name.endswith(_NAMING) else None
    return _VALUE.match(text, pair.end()) if pair is not None and names_secret(pair[1]) else None
