"""The official conformance suite says the same of a server behind Postern as of the server itself.

A selection of what scripts/conformance runs: our fixture over HTTP, with a tool hidden, and the client-mode scenarios.
Skipped where Node, which is installed from a pip wheel, or the suite, which comes from npm, cannot be had.
"""

import subprocess
import sys

import pytest

from tests.third_party import ROOT

LIMIT_S = 180
pytestmark = [pytest.mark.slow, pytest.mark.timeout(2 * LIMIT_S + 20)]


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.conformance.run", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT_S, check=False)


@pytest.mark.usefixtures("official_packages")
def test_a_server_behind_postern_conforms_as_it_does_alone_and_a_hidden_tool_changes_nothing_else():
    ran = run("--part", "http", "--part", "hidden")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.endswith("nothing got worse\n")
    for suite_name, passed in (("2025-11-25", 84), ("2026-07-28", 196), ("0.1.16", 44)):
        assert f"{suite_name:12} {'http':16} {passed:4} passed" in ran.stdout


@pytest.mark.usefixtures("official_packages")
def test_what_a_client_sends_arrives_through_postern_as_it_does_directly():
    ran = run("--part", "client")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"{'client':12} {'client':16} {68:4} passed   0 failed in 7 scenarios" in ran.stdout
