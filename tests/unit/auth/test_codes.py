"""Every way to be refused here is named once, and explained."""

import re
from pathlib import Path

import pytest

from proxy.auth.codes import AuthCode
from proxy.authorize import AuthzCode

DOCS = (Path(__file__).parents[3] / "docs" / "identity.md").read_text(encoding="utf-8")
CODES = [*AuthCode, *AuthzCode]


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_exactly_one_row_in_the_docs(code: str):
    assert len(re.findall(rf"^\| `{re.escape(code)}` \|", DOCS, re.MULTILINE)) == 1


def test_the_docs_explain_no_code_that_is_gone():
    explained = re.findall(r"^\| `(authz?\.[a-z_]+)` \|", DOCS, re.MULTILINE)
    assert sorted(explained) == sorted(CODES)


def test_no_code_stands_for_two_things():
    assert len(set(CODES)) == len(CODES)
