"""No code without a rule, a test and a section; no section without a code."""

import re
from pathlib import Path

from registry.validator import RULES
from tests.unit.registry.cases import CASES, RAW_CASES

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/problems.md").read_text(encoding="utf-8")
_CODE = re.compile(r'"([A-Z]+(?:-[A-Z]+)+)"')
_SOURCES = [path for folder in ("", "rules", "contracts") for path in (ROOT / "registry" / folder).glob("*.py")]
_NOT_CODES = {"UTF-8"}


def codes_in_sources() -> set[str]:
    found = {code for path in _SOURCES for code in _CODE.findall(path.read_text(encoding="utf-8"))}
    return found - _NOT_CODES


def sections() -> dict[str, str]:
    parts = re.split(r"^## (\S+)$", DOCUMENT, flags=re.MULTILINE)
    return {code: text for code, text in zip(parts[1::2], parts[2::2], strict=True) if code == code.upper()}


def test_every_rule_is_found_among_the_codes():
    assert {rule.code for rule in RULES} <= codes_in_sources()
    assert len(codes_in_sources()) > 60


def test_every_code_has_a_section():
    assert codes_in_sources() - set(sections()) == set()


def test_every_section_says_what_why_and_how_to_mend_it_with_an_example():
    for code in codes_in_sources():
        text = sections()[code]
        for part in ("**What**", "**Why**", "```yaml\n", "**Fix**"):
            assert part in text, f"{code} has no {part}"


def test_no_section_is_about_a_code_that_is_gone():
    ours = {code for code in sections() if "-" in code}
    assert ours - codes_in_sources() == set()


def test_every_code_has_a_test():
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests/unit/registry").glob("test_*.py"))
    elsewhere = {code for code in codes_in_sources() if f'("{code}", ' in tests}
    assert codes_in_sources() - set(CASES) - set(RAW_CASES) - elsewhere == set()


def test_every_rule_has_a_hint():
    assert [rule.code for rule in RULES if not rule.hint] == []
