"""How often a schema can make a validator look at one value, before any value is there. Pure.

References make a small schema a big one: `anyOf` of two references to the same place, twenty deep, is a million
looks; through recursion it is two to the power of the value's depth. The work is counted along one path of a value:

    in place      $ref, allOf, anyOf, oneOf, not, if, then, else, dependentSchemas: the same value again
    one level in  of all members of an object (or elements of an array) the one that costs most
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast
from urllib.parse import unquote

MAX_NODES = 20_000
MAX_LOOKS = 20_000
MAX_STEPS = 400_000
MAX_DEPTH = 64

_SELF_ONE = ("not", "if", "then", "else")
_SELF_LIST = ("allOf", "anyOf", "oneOf")
_MEMBER_ONE = ("additionalProperties", "unevaluatedProperties", "propertyNames")
_ELEMENT_ONE = ("items", "additionalItems", "contains", "unevaluatedItems")
_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")
_ANY = ""


class CostError(ValueError):
    """The schema would cost too much, or refers to what is not in it; the message says which."""


def affordable_depth(schema: Mapping[str, Any]) -> int | None:
    """Return how deep a value may nest so that checking it stays affordable; None where any depth is.

    Raises `CostError` where not even a flat object is affordable.
    """
    graph = _Graph(schema)
    looks = dict.fromkeys(graph.nodes, 0)
    for depth in range(MAX_DEPTH + 1):
        deeper = {node: graph.looks(node, looks) for node in graph.nodes}
        if deeper[graph.root] > MAX_LOOKS:
            if depth <= 1:
                raise CostError(
                    f"checking one value could take {deeper[graph.root]:,} looks, {MAX_LOOKS:,} are allowed"
                )
            return depth - 1
        if deeper == looks:
            return None
        looks = deeper
    return MAX_DEPTH


@dataclass(slots=True)
class _Node:
    """One schema object: the schemas that look at the same value, at members by name, at elements by index."""

    here: list[int] = field(default_factory=list[int])
    members: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    elements: dict[str, list[int]] = field(default_factory=dict[str, list[int]])


class _Graph:
    """The schema objects of a document by number, references resolved."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document
        self._numbers: dict[int, int] = {}
        self._anchors: dict[str, object] = {}
        self._closures: dict[int, dict[int, int]] = {}
        self._steps = 0
        self.nodes: dict[int, _Node] = {}
        self._read(document)
        self.root = self._number(document)

    def _read(self, document: Mapping[str, Any]) -> None:
        """Find the anchors. A nested `$id` gives references below it another meaning: refused where there are any."""
        refers = nested = False
        for schema in _schemas(document):
            for key in ("$anchor", "$dynamicAnchor"):
                if isinstance(schema.get(key), str):
                    self._anchors[schema[key]] = schema
            refers = refers or any(isinstance(schema.get(key), str) for key in _REFERENCES)
            nested = nested or (schema is not document and isinstance(schema.get("$id"), str))
        if refers and nested:
            raise CostError("it has schemas with an `$id` of their own beside references; write it as one schema")

    @cached_property
    def _base(self) -> str:
        return str(self._document.get("$id") or "").partition("#")[0]

    def looks(self, node: int, deeper: Mapping[int, int]) -> int:
        """Count looks at one value and along its worst path, where `deeper` counts them one level in."""
        closure = self._closure(node, set())
        total = sum(closure.values())
        return total + max(
            self._worst(closure, deeper, of_members=True), self._worst(closure, deeper, of_members=False)
        )

    def _worst(self, closure: Mapping[int, int], deeper: Mapping[int, int], *, of_members: bool) -> int:
        shared, named = 0, dict[str, int]()
        for number, times in closure.items():
            node = self.nodes[number]
            for name, below in (node.members if of_members else node.elements).items():
                self._step()
                cost = times * sum(deeper[each] for each in below)
                if name == _ANY:
                    shared += cost
                else:
                    named[name] = named.get(name, 0) + cost
        return shared + max(named.values(), default=0)

    def _closure(self, number: int, above: set[int]) -> dict[int, int]:
        """Return every schema that looks at the same value, and how often."""
        if number in self._closures:
            return self._closures[number]
        if number in above:
            raise CostError("a schema refers to itself without going deeper into the value")
        found = {number: 1}
        for below in self.nodes[number].here:
            for each, times in self._closure(below, above | {number}).items():
                self._step()
                found[each] = found.get(each, 0) + times
        self._closures[number] = found
        return found

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise CostError("it is too entangled to be checked within bounds")

    def _number(self, schema: Mapping[str, Any]) -> int:
        known = self._numbers.get(id(schema))
        if known is not None:
            return known
        number = self._numbers[id(schema)] = len(self._numbers)
        if number >= MAX_NODES:
            raise CostError(f"it has more than {MAX_NODES:,} schemas")
        node = self.nodes[number] = _Node()
        node.here = [self._number(each) for each in (*self._referred(schema), *_in_place(schema))]
        for groups, below in ((node.members, _of_members(schema)), (node.elements, _of_elements(schema))):
            for name, each in below:
                groups.setdefault(name, []).append(self._number(each))
        return number

    def _referred(self, schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        for keyword in _REFERENCES:
            if keyword in schema:
                target = self._target(str(schema[keyword]))
                if isinstance(target, dict):
                    yield cast("dict[str, Any]", target)

    def _target(self, reference: str) -> object:
        base, _, fragment = reference.partition("#")
        if base not in {"", self._base}:
            raise CostError(f"it refers to {reference[:200]!r}; only references into the schema itself are followed")
        fragment = unquote(fragment)
        if fragment and not fragment.startswith("/"):
            return self._found(self._anchors, fragment, reference)
        node: object = self._document
        for token in fragment.split("/")[1:]:
            node = self._found(node, token.replace("~1", "/").replace("~0", "~"), reference)
        return node

    @staticmethod
    def _found(node: object, token: str, reference: str) -> object:
        if isinstance(node, Mapping) and token in node:
            return cast("Mapping[str, object]", node)[token]
        if isinstance(node, list) and token.isdecimal() and int(token) < len(cast("list[object]", node)):
            return cast("list[object]", node)[int(token)]
        raise CostError(f"it refers to {reference[:200]!r}, which is not there")


def _schemas(root: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield every object in the document."""
    stack: list[tuple[object, int]] = [(root, 0)]
    while stack:
        node, depth = stack.pop()
        if depth > 2 * MAX_DEPTH:
            raise CostError(f"it nests more than {2 * MAX_DEPTH} levels deep")
        if isinstance(node, dict):
            schema = cast("dict[str, Any]", node)
            yield schema
            stack.extend((value, depth + 1) for value in schema.values())
        elif isinstance(node, list):
            stack.extend((value, depth + 1) for value in cast("list[object]", node))


def _dicts(values: Sequence[object]) -> Iterator[Mapping[str, Any]]:
    return (cast("dict[str, Any]", value) for value in values if isinstance(value, dict))


def _in_place(schema: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from _dicts([schema[key] for key in _SELF_ONE if key in schema])
    for key in _SELF_LIST:
        yield from _dicts(_list(schema.get(key)))
    for key in ("dependentSchemas", "dependencies"):
        yield from _dicts([*_mapping(schema.get(key)).values()])


def _of_members(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, value in _mapping(schema.get("properties")).items():
        for each in _dicts([value]):
            yield f".{name}", each
    for each in _dicts([*_mapping(schema.get("patternProperties")).values()]):
        yield _ANY, each
    for each in _dicts([schema[key] for key in _MEMBER_ONE if key in schema]):
        yield _ANY, each


def _of_elements(schema: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    tuples = [*_list(schema.get("prefixItems")), *_list(schema.get("items"))]
    for index, value in enumerate(tuples):
        for each in _dicts([value]):
            yield str(index), each
    for each in _dicts([schema[key] for key in _ELEMENT_ONE if key in schema]):
        yield _ANY, each


def _list(value: object) -> list[object]:
    return cast("list[object]", value) if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, object]:
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}
