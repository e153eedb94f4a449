"""Every code that a row or a caller can see has its line in the documentation, and a test that meets it."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = re.compile(
    r'"((?:wire|auth|authz|session|task|route|limit|audit|upstream|proxy|client|stream|cors|contract|hook)\.[a-z_]+)"'
)
PAGES = ("refusals.md", "identity.md", "contracts.md", "hooks.md")
NOT_CODES = {f"proxy.{folder.name}" for folder in (ROOT / "proxy").iterdir()} | {"proxy.defaults"}
"""Names of packages, which look like codes."""


def _used() -> dict[str, str]:
    found: dict[str, str] = {}
    for path in sorted((ROOT / "proxy").rglob("*.py")):
        for code in CODE.findall(path.read_text(encoding="utf-8")):
            found.setdefault(code, str(path.relative_to(ROOT)))
    return {code: where for code, where in found.items() if code not in NOT_CODES}


def _documented() -> set[str]:
    pages = [ROOT / "docs" / page for page in PAGES]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages if page.exists())
    return set(re.findall(r"`([a-z]+\.[a-z_]+)`", text))


@pytest.mark.parametrize(("code", "where"), sorted(_used().items()))
def test_every_code_is_documented(code, where) -> None:
    """A code in the source stands on one of the pages."""
    assert code in _documented(), f"{code} ({where}) stands on none of {', '.join(PAGES)}"


def test_the_page_names_no_code_that_is_gone() -> None:
    """What docs/refusals.md lists exists."""
    page = (ROOT / "docs" / "refusals.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z]+\.[a-z_]+)` \|", page, re.MULTILINE))
    assert listed <= set(_used())


def test_every_refusal_code_is_met_by_a_test() -> None:
    """A code that no test mentions is a refusal that nobody has seen; the base of a family is no refusal."""
    tests = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))

    unmet = [c for c in _used() if c not in tests and f"AuthCode.{c.removeprefix('auth.').upper()}" not in tests]
    unmet = [c for c in unmet if f"AuthzCode.{c.removeprefix('authz.').upper()}" not in tests]

    assert set(unmet) <= {"upstream.error"}, unmet
