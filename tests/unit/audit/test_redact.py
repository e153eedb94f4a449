"""Snapshots: redacted, capped, always JSON; the original's size and digest."""

import hashlib
import json
import time
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.audit.detector import MASK, mask_secrets, may_hold_secret, names_secret
from proxy.audit.redact import SMALLEST_CAP, redact, snapshot

CAP = 65_536


def shown(value: object, *pointers: str, cap: int = CAP) -> Any:
    text = snapshot(value, b"", pointers, cap).text
    assert text is not None
    return json.loads(text)


def test_size_and_digest_are_of_the_whole() -> None:
    made = snapshot({"a": 1}, b"the whole body", (), CAP)
    assert (made.text, made.size, made.sha256) == ('{"a":1}', 14, hashlib.sha256(b"the whole body").digest())


def test_no_value_is_no_text() -> None:
    assert snapshot(None, b"not json", (), CAP).text is None
    assert snapshot({"a": 1}, b"", (), SMALLEST_CAP - 1).text is None


POINTERS: list[tuple[str, object, object]] = [
    ("/card", {"card": "4111", "x": 1}, {"card": MASK, "x": 1}),
    ("card", {"card": "4111"}, {"card": MASK}),
    ("/a/b", {"a": {"b": 1, "c": 2}}, {"a": {"b": MASK, "c": 2}}),
    ("/a/1", {"a": [1, 2, 3]}, {"a": [1, MASK, 3]}),
    ("/*/pin", [{"pin": 1}, {"pin": 2}, {"id": 3}], [{"pin": MASK}, {"pin": MASK}, {"id": 3}]),
    ("/a~1b/c~0d", {"a/b": {"c~d": 1}}, {"a/b": {"c~d": MASK}}),
    ("", {"a": 1}, MASK),
    ("/missing/x", {"a": 1}, {"a": 1}),
    ("/a/b", {"a": "text"}, {"a": "text"}),
]


@pytest.mark.parametrize(("pointer", "value", "expected"), POINTERS, ids=[each[0] or "whole" for each in POINTERS])
def test_pointers(pointer: str, value: object, expected: object) -> None:
    before = json.dumps(value)
    assert shown(value, pointer) == expected
    assert json.dumps(value) == before, "the message itself is not touched"


def test_a_redacted_value_is_masked_where_text_repeats_it() -> None:
    """Servers send structured content a second time, as text."""
    result = {
        "structuredContent": {"iban": "DE02120300000000202051", "n": 7},
        "content": [{"type": "text", "text": '{"iban":"DE02120300000000202051","n":7}'}],
    }
    assert "DE0212" not in json.dumps(shown(result, "/structuredContent/iban"))
    assert shown(result, "/structuredContent/n")["content"][0]["text"].endswith('"n":7}'), "short values stay readable"


def test_a_redacted_value_is_masked_where_it_is_escaped_twice() -> None:
    answer = {"card": 'a"b\\c\nd', "content": [{"text": json.dumps(json.dumps({"card": 'a"b\\c\nd'}))}]}
    assert "nd" not in json.dumps(shown(answer, "/card"))


SECRETS = [
    "AKIAIOSFODNN7EXAMPLE",
    "ghp_" + "a1B2" * 9,
    "github_pat_" + "11ABCDE0Y0" * 3,
    "glpat-" + "x" * 20,
    "xoxb-123456789012-abcdefghij",
    "sk-" + "proj-" + "a" * 40,
    "sk-ant-api03-" + "b" * 40,
    "sk_live_" + "4eC39HqLyjWDarjtT1",
    "AIza" + "SyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "ya29." + "a0AfH6SMBx" * 3,
    "hvs." + "CAESIJ" * 5,
    "npm_" + "a" * 36,
    "SG." + "a" * 22 + "." + "b" * 43,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
    "-----BEGIN PRIVATE KEY-----\nMIIEpAIBAAKCAQEA",
]


@pytest.mark.parametrize("secret", SECRETS)
def test_credential_formats_are_masked_anywhere(secret: str) -> None:
    for value in ({"x": secret}, {"x": f"use {secret} please"}, {"x": json.dumps({"deep": [secret]})}, {secret: 1}):
        text = snapshot(value, b"", (), CAP).text
        assert text is not None
        assert json.dumps(secret)[1:-1] not in text
        assert MASK in text


BEFORE = ["\n", "\t", "<", "=", "é", "\x1b[1;31m"]
"""What a secret may stand behind; escaped, most of them end in a letter or a digit."""


def _written(text: str) -> list[object]:
    """Return a text as it is, as JSON in a text once and twice, as careful encoders write it, and in a URL."""
    once = json.dumps({"of": text})
    careful = once.replace("<", "\\u003c").replace("=", "\\u003d")
    sent = (quote(text, safe=""), quote(once, safe="")) if text.isprintable() or "\n" in text else ()
    return [{"x": each} for each in (text, once, json.dumps(once), careful, *sent)]


@pytest.mark.parametrize("secret", [*SECRETS[:-2], "Bearer hunter2hunter2"])
@pytest.mark.parametrize("before", BEFORE, ids=repr)
def test_credentials_are_masked_behind_line_ends_and_escapes(secret: str, before: str) -> None:
    for value in _written(f"key:{before}{secret}"):
        text = snapshot(value, b"", (), CAP).text
        assert text is not None
        assert secret.rsplit(maxsplit=1)[-1] not in text, value


NAMED = [
    {"password": "hunter2"},
    {"dbPassword": "hunter2"},
    {"db_password": "hunter2"},
    {"X-Api-Key": "hunter2"},
    {"client_secret": "hunter2"},
    {"env": {"AWS_SECRET_ACCESS_KEY": "hunter2"}},
    {"headers": {"Authorization": "hunter2"}},
    {"refreshToken": "hunter2"},
    {"passcode": 123456},
    {"X-Api-Key": ["hunter2"]},
    {"text": 'config: {"password": "hunter2"}'},
    {"text": "password=hunter2&user=a"},
    {"text": "API_KEY: hunter2"},
    {"text": "curl -H 'Authorization: Bearer hunter2hunter2'"},
    {"text": "postgresql://postern:hunter2@db.example/postern"},
    {"text": json.dumps(json.dumps({"password": "hunter2"}))},
    {"text": "GET https://api.example/v1/items?api_key=hunter2&page=1"},
    {"text": "note: password=hunter2"},
    {"text": "docker run --env=DB_PASSWORD=hunter2 db"},
    {"text": "Cookie: theme=dark; sid=hunter2"},
    {"text": json.dumps({"log": "GET /\nauthorization: ApiKey hunter2\ncookie: a=b; sid=hunter2"})},
    {"text": 'password = "a\\"hunter2"'},
    {"text": json.dumps({"password": 'a"hunter2'})},
    {"text": json.dumps({"text": json.dumps({"password": 'a"hunter2'})})},
    {"text": "password := hunter2"},
    {"text": '"password" => "hunter2"'},
    {"text": "user[password]=hunter2"},
    {"text": "postgresql://postern:p@hunter2@db.example/postern"},
    {"text": quote(json.dumps({"query": {"password": "hunter2"}}), safe="")},
    {"text": json.dumps({"text": "épassword=hunter2"})},
    {"s3SecretKey": "hunter2", "oauth2secret": "hunter2", "user[password]": "hunter2"},
    {"env": [{"name": "DB_PASSWORD", "value": "hunter2"}, {"key": "apiKey", "value": 123456}]},
    {"text": json.dumps({"env": [{"name": "DB_PASSWORD", "value": "hunter2"}]})},
    {"text": json.dumps({"X-Api-Key": ["hunter2"]})},
    {"text": "password={SHA}hunter2"},
    {"text": "env:\n  - name: DB_PASSWORD\n    value: hunter2\n"},
]


@pytest.mark.parametrize("value", NAMED, ids=json.dumps)
def test_secrets_by_name_are_masked(value: object) -> None:
    text = json.dumps(shown(value))
    assert "hunter2" not in text
    assert "123456" not in text


INNOCENT = [
    {"max_tokens": 100, "next_token": "abc", "progressToken": 1, "tokens": ["a"]},
    {"text": "the task-based desk disk risk-free; eyJust a word; passwords are hashed"},
    {"url": "https://example.org/a?b=c", "mail": "a@example.org"},
    {"secretary": "Bob", "keyboard": "de", "password": True, "password_hint": None},
    {"description": "Basic auth is old", "cookies_accepted": 3},
    {"name": "password", "type": "string", "note": "the secretary; name: password, title: x"},
    {"name": "city", "value": "Bonn", "url": "https://example.org/?a=b&token_count=3"},
    {"text": json.dumps({"properties": {"password": {"type": "string"}, "secret": [], "passcode": {}}})},
    {"text": "Each subtoken embeddings table; a token=3"},
]


@pytest.mark.parametrize("value", INNOCENT, ids=json.dumps)
def test_innocent_data_stays_as_it_is(value: object) -> None:
    assert shown(value) == value


@pytest.mark.parametrize("secret", [*SECRETS, *(json.dumps(value) for value in NAMED)])
def test_the_cheap_test_never_misses_what_the_mask_would_hide(secret: str) -> None:
    assert mask_secrets(secret) == secret or may_hold_secret(json.dumps(secret))


@pytest.mark.parametrize(
    "name", ["password", "PASSWORD", "userPassword", "api-key", "access_token", "idToken", "Set-Cookie"]
)
def test_names_of_secrets(name: str) -> None:
    assert names_secret(name)
    assert may_hold_secret(json.dumps({name: 1}))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=20,
)


@given(json_values, st.integers(0, 300), st.lists(st.sampled_from(["", "/a", "/*", "/0/*"]), max_size=2))
def test_a_snapshot_is_json_within_its_cap(value: object, cap: int, pointers: list[str]) -> None:
    text = snapshot(value, b"", pointers, cap).text
    if text is not None:
        assert len(text.encode()) <= cap
        json.loads(text)
    else:
        assert value is None or cap < SMALLEST_CAP


def test_a_cut_snapshot_says_so() -> None:
    made = shown({"text": "x\n" * 500}, cap=100)
    assert list(made) == ["truncated"]
    assert made["truncated"].startswith('{"text":"x')


def test_a_secret_is_masked_before_the_cut() -> None:
    text = snapshot({"pad": "p" * 60, "key": "AKIAIOSFODNN7EXAMPLE"}, b"", (), 110).text
    assert text is not None
    assert "AKIA" not in text


def test_odd_json_is_kept() -> None:
    assert shown({"n": 2**200}) == {"n": 2**200}
    assert shown({"s": "\ud800"}) == {"s": "\ud800"}


def test_what_is_too_deep_is_masked() -> None:
    deep: object = "AKIAIOSFODNN7EXAMPLE"
    for _ in range(500):
        deep = [deep]
    assert "AKIA" not in json.dumps(redact(deep)[0])


def test_quotes_in_quotes_end_somewhere() -> None:
    text = "password=x"
    for level in range(60):
        quote = "\\" * level + '"'
        text = f"a={quote}{text}{quote}"
    assert "password=x" not in mask_secrets(text)


SLOW = [
    "password ",
    "password=x ",
    'password="',
    "eyJ",
    "sk-aaaa ",
    "a",
    "a://b:",
    "-----BEGIN PRIVATE KEY-----",
    "_",
    "aaa : ",
    "a='",
    "name: a, value: ",
    "name: password, value: ",
    "\\n",
    "%20",
    "://a:b@",
    "authorization: x\n",
    "password='\\'",
]


@pytest.mark.parametrize("piece", SLOW)
def test_the_work_on_hostile_text_is_bounded(piece: str) -> None:
    """4 MB of suspicion cost little more than the 64 KB that are shown."""
    value = {"password": "x", "text": piece * (4_000_000 // len(piece))}
    whole = b""
    began = time.process_time()
    text = snapshot(value, whole, (), CAP).text
    assert text is not None
    assert time.process_time() - began < 1.0


TAKEN = [
    ([f"s{number:06d}" for number in range(9_000)], [f"{number:05d}" for number in range(12_000)]),
    ([f"s{number:06d}" for number in range(9_000)], [f"s{number:06d}" for number in range(9_000)]),
    ([f's"{number:06d}' for number in range(500_000)], ["x"] * 9_000),
    (["aaaa" + "a" * length for length in range(2_000)], ["a" * 60_000]),
]


@pytest.mark.parametrize(("taken", "others"), TAKEN, ids=range(len(TAKEN)))
def test_the_work_on_what_pointers_take_is_bounded(taken: list[str], others: list[str]) -> None:
    """A caller says how many values there are, before anybody knows who it is."""
    began = time.process_time()
    text = snapshot({"secret": taken, "others": others}, b"", ["/secret"], CAP).text
    assert time.process_time() - began < 1.0
    assert text is not None
    assert "s000001" not in text


def test_what_pointers_take_may_nest_deep() -> None:
    deep: object = "hunter2"
    for _ in range(900):
        deep = [deep]
    assert shown({"a": deep, "b": "hunter2"}, "/a") == {"a": MASK, "b": MASK}


def test_a_table_that_pointers_take_is_masked_where_text_repeats_it() -> None:
    rows = [[f"cell {column} of row {row}" for column in range(4)] for row in range(500)]
    made = shown({"rows": rows, "text": json.dumps(rows), "note": "all"}, "/rows")
    assert made["note"] == "all"
    assert "cell" not in json.dumps(made)


def test_a_cut_snapshot_keeps_the_names_of_what_it_shows() -> None:
    made = shown({"password": "x", "outer": {"inner": ["y" * 100] * 200}}, cap=1000)["truncated"]
    assert made.startswith('{"password":"[redacted]","outer":{"inner":["yyy')


@pytest.mark.parametrize("empty", [[], {}, [[[[]]]]], ids=repr)
def test_the_work_on_what_is_empty_is_bounded(empty: object) -> None:
    began = time.process_time()
    assert redact({"password": "x", "many": [empty] * 1_000_000}, (), CAP)[1] is False
    assert time.process_time() - began < 0.5


def test_a_part_that_was_not_looked_at_is_not_shown() -> None:
    secret = "AKIAIOSFODNN7EXAMPLE"
    text = snapshot({"password": "x", "list": ["x" * 1000] * 200 + [secret]}, b"", (), 1000).text
    assert text is not None
    assert list(json.loads(text)) == ["truncated"]
    assert secret not in text
