"""URIs as patterns and as names: a pattern must not be slipped past by spelling a URI differently. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar
from urllib.parse import unquote

_DOTS = re.compile(r"(?:^|[/\\:])\.{1,2}(?:[/\\?#;]|$)")
_LONGEST_DECODING = 4

V = TypeVar("V")


def canonical_uri(uri: str) -> str | None:
    """Return a URI fully unescaped, scheme and host in lower case; None if it walks (`..`) or never settles."""
    found = uri
    for _ in range(_LONGEST_DECODING):
        decoded = unquote(found, errors="surrogateescape")
        if decoded == found:
            break
        found = decoded
    else:
        return None
    scheme, separator, rest = found.partition("://")
    host, slash, path = rest.partition("/")
    settled = f"{scheme.lower()}://{host.lower()}{slash}{path}" if separator else _lower_scheme(found)
    return None if _DOTS.search(settled) or "\\" in settled else settled


def _lower_scheme(uri: str) -> str:
    scheme, colon, rest = uri.partition(":")
    return f"{scheme.lower()}:{rest}" if colon else uri


def _both_spellings(items: Iterable[tuple[str, V]]) -> dict[str, V]:
    found: dict[str, V] = {}
    for uri, value in items:
        found[uri] = value
        settled = canonical_uri(uri)
        if settled is not None:
            found.setdefault(settled, value)
    return found


class UriRules(Generic[V]):
    """Values by exact URI or by prefix (`notes://public/*`); the exact one wins, then the longest prefix."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, declared: Mapping[str, V] | Iterable[tuple[str, V]]) -> None:
        items = dict(declared)
        self._exact = _both_spellings((uri, value) for uri, value in items.items() if not uri.endswith("*"))
        prefixes = _both_spellings((uri[:-1], value) for uri, value in items.items() if uri.endswith("*"))
        self._prefixes = tuple(sorted(prefixes.items(), key=lambda item: -len(item[0])))

    def find(self, uri: str) -> tuple[V, ...]:
        """Return the values that govern a URI; empty if none does.

        A URI that can be spelled in another way is governed by both spellings, because the server may read either.
        """
        settled = canonical_uri(uri)
        if settled is None:
            exact = self._exact.get(uri)
            return () if exact is None else (exact,)
        found = [self._lookup(spelling) for spelling in dict.fromkeys((uri, settled))]
        return () if None in found else tuple(value for value in found if value is not None)

    def _lookup(self, uri: str) -> V | None:
        exact = self._exact.get(uri)
        if exact is not None:
            return exact
        return next((value for prefix, value in self._prefixes if uri.startswith(prefix)), None)

    def find_template(self, template: str) -> tuple[V, ...]:
        """Return the values that govern every URI of a template: its own entry, or prefixes of its literal part."""
        if template in self._exact:
            return (self._exact[template],)
        return self.find(template.partition("{")[0])
