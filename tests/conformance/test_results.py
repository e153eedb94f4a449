"""The comparison of two runs says what a person would say."""

import json
from pathlib import Path

import pytest

from tests.conformance.results import Difference, Results, compare, count, read_results, unfinished


def write(directory: Path, scenario: str, *checks: tuple[str, str]) -> None:
    folder = directory / f"server-{scenario}-2026-11-23T04-20-44-723Z"
    folder.mkdir(parents=True)
    found = [{"id": name, "name": name.title(), "status": status} for name, status in checks]
    (folder / "checks.json").write_text(json.dumps(found))


def test_checks_are_read_by_scenario_and_those_that_only_inform_are_left_out(tmp_path: Path):
    write(tmp_path, "tools-list", ("a", "SUCCESS"), ("a", "FAILURE"), ("event", "INFO"))
    write(tmp_path, "server-sse-polling", ("b", "WARNING"))
    results = read_results(tmp_path)
    assert results == {"tools-list": {"a A": ("SUCCESS", "FAILURE")}, "server-sse-polling": {"b B": ("WARNING",)}}
    assert count(results) == (1, 1)
    assert read_results(tmp_path / "missing") == {}


def test_equal_runs_do_not_differ():
    results: Results = {"s": {"a": ("SUCCESS", "FAILURE")}}
    assert compare(results, results) == []


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ("FAILURE", "SUCCESS", "better"),
        ("WARNING", "SUCCESS", "better"),
        ("SUCCESS", "FAILURE", "worse"),
        ("SUCCESS", "WARNING", "worse"),
        ("SUCCESS", "SKIPPED", "worse"),
        ("FAILURE", "WARNING", "better"),
        ("FAILURE", "SKIPPED", "gone"),
        ("WARNING", "SKIPPED", "gone"),
    ],
)
def test_a_change_is_better_or_worse(before: str, after: str, verdict: str):
    assert [each.verdict for each in compare({"s": {"a": (before,)}}, {"s": {"a": (after,)}})] == [verdict]


def test_a_check_that_is_missing_on_one_side_is_a_difference():
    direct: Results = {"s": {"a": ("SUCCESS", "SUCCESS")}, "t": {"b": ("SUCCESS",)}}
    lost = compare(direct, {"s": {"a": ("SUCCESS",)}})
    assert lost == [Difference("s", "a", "SUCCESS", "MISSING"), Difference("t", "b", "SUCCESS", "MISSING")]
    assert {each.verdict for each in lost} == {"worse"}
    assert {each.verdict for each in compare({}, direct)} == {"better"}
    assert {each.verdict for each in compare({"s": {"a": ("FAILURE",)}}, {})} == {"gone"}


def test_a_scenario_that_was_played_on_one_side_only_is_named():
    """Where all checks of a scenario fail directly, one that was never played would pass for as good."""
    direct: Results = {"s": {"a": ("FAILURE",)}, "t": {"b": ("SUCCESS",)}, "u": {}}
    assert unfinished(direct, {"t": {"b": ("FAILURE",)}}) == ["s"]
    assert unfinished(direct, direct) == []
