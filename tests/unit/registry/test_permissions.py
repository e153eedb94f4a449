from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.models import Permissions
from registry.permissions import Implications, PermissionCycleError, PermissionSizeError, find_cycle

NOTES = Permissions(
    ladder=("admin", "user", "guest"),
    implies={"notes:admin": ("notes:write",), "notes:write": ("notes:read",), "admin": ("notes:admin",)},
)


def test_a_rung_satisfies_every_rung_below_it():
    assert Implications.of(NOTES).match(frozenset({"admin"}), ["guest"]) == ("admin",)


def test_a_rung_never_satisfies_a_rung_above_it():
    assert Implications.of(NOTES).match(frozenset({"guest"}), ["user"]) is None


def test_a_family_implies_through_several_steps():
    assert Implications.of(NOTES).match(frozenset({"admin"}), ["notes:read"]) == ("admin",)


def test_an_exact_scope_is_preferred_over_a_wider_one():
    held = frozenset({"notes:admin", "notes:read"})
    assert Implications.of(NOTES).match(held, ["notes:read"]) == ("notes:read",)


def test_all_needed_scopes_must_be_held():
    held = frozenset({"notes:write"})
    implications = Implications.of(NOTES)
    assert implications.match(held, ["notes:read", "user"]) is None
    assert implications.missing(held, ["notes:read", "user"]) == ("user",)


def test_one_wide_scope_that_satisfies_two_needs_is_named_once():
    assert Implications.of(NOTES).match(frozenset({"admin"}), ["notes:read", "user"]) == ("admin",)


def test_nothing_needed_is_satisfied_by_nothing():
    assert Implications.of(NOTES).match(frozenset(), []) == ()


def test_a_scope_outside_the_model_satisfies_itself_and_nothing_else():
    implications = Implications.of(Permissions())
    assert implications.match(frozenset({"files:read"}), ["files:read"]) == ("files:read",)
    assert implications.match(frozenset({"files:readall"}), ["files:read"]) is None
    assert implications.match(frozenset({"files"}), ["files:read"]) is None


def test_expansion_lists_everything_implied():
    assert Implications.of(NOTES).expand({"notes:write", "other"}) == {"notes:write", "notes:read", "other"}


def test_granters_name_everyone_who_may():
    assert Implications.of(NOTES).granters("notes:read") == {"notes:read", "notes:write", "notes:admin", "admin"}


@pytest.mark.parametrize(
    ("permissions", "cycle"),
    [
        (Permissions(implies={"a": ("b",), "b": ("a",)}), ("a", "b", "a")),
        (Permissions(implies={"a": ("a",)}), ("a", "a")),
        (Permissions(ladder=("a", "b", "a")), ("a", "b", "a")),
        (Permissions(ladder=("a", "b"), implies={"b": ("a",)}), ("a", "b", "a")),
    ],
)
def test_a_circle_is_refused_and_named(permissions: Permissions, cycle: tuple[str, ...]):
    assert find_cycle(permissions) == cycle
    with pytest.raises(PermissionCycleError) as raised:
        Implications.of(permissions)
    assert raised.value.cycle == cycle


def test_two_ways_to_one_scope_are_not_a_circle():
    assert find_cycle(Permissions(implies={"a": ("b", "c"), "b": ("d",), "c": ("d",)})) is None


def test_a_long_chain_needs_no_deep_stack():
    chain = Permissions(ladder=tuple(f"s{i}" for i in range(1_200)))
    assert Implications.of(chain).match(frozenset({"s0"}), ["s1199"]) == ("s0",)


def test_a_model_that_would_fill_the_memory_is_refused():
    chain = Permissions(ladder=tuple(f"s{i}" for i in range(20_000)))
    with pytest.raises(PermissionSizeError):
        Implications.of(chain)


SCOPES = [f"s{i}" for i in range(8)]


@st.composite
def acyclic_models(draw: st.DrawFn) -> Permissions:
    """Edges run only from a lower to a higher position of a random order, so no circle can arise."""
    order = draw(st.permutations(SCOPES))
    edges = draw(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=14))
    implies: dict[str, tuple[str, ...]] = {}
    for one, other in edges:
        if one < other:
            implies[order[one]] = (*implies.get(order[one], ()), order[other])
    return Permissions(ladder=tuple(order[: draw(st.integers(0, 3))]), implies=implies)


def leads_to(permissions: Permissions, wide: str, narrow: str) -> bool:
    """An independent, naive statement of the rule."""
    if wide == narrow:
        return True
    below = list(permissions.implies.get(wide, ()))
    if wide in permissions.ladder:
        below += permissions.ladder[permissions.ladder.index(wide) + 1 :]
    return any(leads_to(permissions, step, narrow) for step in below)


@given(
    acyclic_models(), st.frozensets(st.sampled_from(SCOPES), max_size=4), st.lists(st.sampled_from(SCOPES), max_size=3)
)
def test_match_allows_exactly_what_the_edges_allow(permissions: Permissions, held: frozenset[str], needed: list[str]):
    matched = Implications.of(permissions).match(held, needed)
    allowed = all(any(leads_to(permissions, have, need) for have in held) for need in needed)
    assert (matched is not None) == allowed
    assert set(matched or ()) <= held


@given(acyclic_models(), st.sampled_from(SCOPES), st.sampled_from(SCOPES))
def test_a_narrower_permission_never_satisfies_a_wider_scope(permissions: Permissions, wide: str, narrow: str):
    implications = Implications.of(permissions)
    if wide != narrow and implications.match(frozenset({wide}), [narrow]) is not None:
        assert implications.match(frozenset({narrow}), [wide]) is None


@given(acyclic_models(), st.frozensets(st.sampled_from(SCOPES), max_size=4))
def test_expanding_twice_adds_nothing(permissions: Permissions, held: frozenset[str]):
    implications = Implications.of(permissions)
    assert implications.expand(implications.expand(held)) == implications.expand(held)


@given(st.dictionaries(st.sampled_from(SCOPES), st.lists(st.sampled_from(SCOPES), max_size=3).map(tuple), max_size=8))
def test_a_reported_circle_is_a_real_one(implies: dict[str, tuple[str, ...]]):
    cycle = find_cycle(Permissions(implies=implies))
    if cycle is None:
        Implications.of(Permissions(implies=implies))
    else:
        assert cycle[0] == cycle[-1]
        assert all(narrow in implies[wide] for wide, narrow in pairwise(cycle))
