"""The words of a challenge, as clients parse them."""

import re

import pytest

from proxy.auth.challenges import Challenges
from proxy.auth.codes import STATUS, AuthCode, Fault

METADATA = "https://gw.example/.well-known/oauth-protected-resource/notes/mcp"
# The pattern of the official Python client: not anchored, first hit wins.
CLIENT_SCOPE = re.compile(r'scope=(?:"([^"]+)"|([^\s,]+))')
CLIENT_ERROR = re.compile(r'error=(?:"([^"]+)"|([^\s,]+))')


def first(pattern: re.Pattern[str], text: str) -> str:
    found = pattern.search(text)
    assert found is not None
    return found[1]


CHALLENGES = Challenges(METADATA, ("notes:use", "notes:read"))


def test_without_a_credential_there_is_no_error():
    assert CHALLENGES.missing() == f'Bearer scope="notes:use notes:read", resource_metadata="{METADATA}"'.encode()


def test_without_scopes_there_is_no_scope_parameter():
    assert Challenges(METADATA).missing() == f'Bearer resource_metadata="{METADATA}"'.encode()


def test_insufficient_scope_names_every_scope():
    found = CHALLENGES.insufficient(("a", "b")).decode()
    assert first(CLIENT_ERROR, found) == "insufficient_scope"
    assert first(CLIENT_SCOPE, found) == "a b"


@pytest.mark.parametrize(
    "evil", ['scope="root"', "error=insufficient_scope", 'x", scope="root', "scope=root", "a\\", "é\r\n"]
)
def test_a_description_cannot_be_read_as_a_parameter(evil: str):
    found = CHALLENGES.invalid("invalid_token", evil).decode("ascii")
    assert first(CLIENT_SCOPE, found) == "notes:use notes:read"
    assert first(CLIENT_ERROR, found) == "invalid_token"
    assert found.count('"') == 8
    assert found.isprintable()


def test_scopes_cannot_break_out_of_their_quotes():
    found = CHALLENGES.insufficient(('a"b', "c\\d")).decode("ascii")
    assert first(CLIENT_SCOPE, found) == "a?b c?d"


@pytest.mark.parametrize("code", AuthCode)
def test_every_code_has_one_status_and_the_headers_that_belong_to_it(code: AuthCode):
    found = CHALLENGES.refusal(Fault(code, "why"))
    names = [name for name, _ in found.headers]
    assert (found.code, found.status) == (code, STATUS[code])
    expected = {400: [b"www-authenticate"], 401: [b"www-authenticate"], 403: [], 503: [b"retry-after"]}
    assert names == expected[found.status]
