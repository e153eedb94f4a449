"""What a part of the run complains of, and what it lets pass."""

from tests.conformance.parts import PARTS, Part
from tests.conformance.results import Difference

WORSE = Difference("tools-list", "a", "SUCCESS", "FAILURE")
BETTER = Difference("dns-rebinding-protection", "b", "FAILURE", "SUCCESS")
HIDDEN = Part("hidden", hides=True, lost=frozenset({"tools-list"}))
REFERENCE = Part("reference", mended={"2025-11-25": frozenset({"dns-rebinding-protection"})})


def test_what_got_better_is_welcome_anywhere():
    assert Part("http").complaints("2025-11-25", [BETTER]) == []
    assert Part("http").complaints("2025-11-25", []) == []


def test_what_got_worse_is_told():
    assert Part("http").complaints("2025-11-25", [WORSE, BETTER]) == ["tools-list got worse"]


def test_a_hidden_tool_is_lost_and_nothing_else():
    assert HIDDEN.complaints("2025-11-25", [WORSE]) == []
    other = Difference("ping", "c", "SUCCESS", "MISSING")
    assert HIDDEN.complaints("2025-11-25", [WORSE, other]) == ["ping got worse"]


def test_a_hidden_tool_that_answers_is_told():
    assert HIDDEN.complaints("2025-11-25", []) == ["tools-list should fail, for its tool is hidden"]


def test_a_defect_that_is_not_mended_is_told():
    assert REFERENCE.complaints("2025-11-25", [BETTER]) == []
    assert REFERENCE.complaints("2025-11-25", []) == ["dns-rebinding-protection is not mended"]
    assert REFERENCE.complaints("2026-07-28", []) == []


def test_an_upstream_that_fails_by_itself_proves_nothing():
    broken = {"ping": {"a": ("FAILURE",)}}
    assert Part("http").shortfall("2025-11-25", broken) == ["fixture passes 0 checks directly, and should pass 84"]
    assert Part("http").shortfall("2025-11-25", {"all": {"a": ("SUCCESS",) * 84}}) == []


def test_every_part_has_a_name_of_its_own():
    assert len({part.name for part in PARTS}) == len(PARTS)
