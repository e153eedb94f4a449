"""Our own credentials are found in whatever way a server repeats them, and cost one search where it does not."""

import base64
import json
import time
import urllib.parse

import pytest

from proxy.audit.hidden import NOTHING, Hidden
from proxy.audit.redact import snapshot, told

KEY = 'live/7f3a9c+"Zq=='
HIDDEN = Hidden([KEY, "Bearer 0paque-Zx81", "Basic " + base64.b64encode(b"postern:s3cr-et").decode()])
FORMS = {
    "plain": KEY,
    "in JSON": json.dumps(KEY),
    "in JSON in JSON": json.dumps(json.dumps({"key": KEY})),
    "by an encoder that escapes slashes": json.dumps(json.dumps(KEY)).replace("/", "\\/"),
    "by an encoder that escapes for HTML": json.dumps(KEY).replace("+", "\\u002B").replace('\\"', "\\u0022"),
    "in a URL": f"https://a.example/?key={urllib.parse.quote(KEY, safe='')}",
    "behind its scheme": "no such token: 0paque-Zx81",
    "with its scheme": "authorization: Bearer 0paque-Zx81",
    "the password of a Basic credential": "wrong password s3cr-et",
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_every_form_is_masked(text: str) -> None:
    for shown in (told(text, 2000, HIDDEN), snapshot({"a": [text]}, b"", (), 2000, HIDDEN).text):
        assert shown is not None
        assert "[redacted]" in shown
        for piece in ("7f3a9c", "0paque", "s3cr"):
            assert piece not in shown


def test_a_snapshot_without_a_credential_stays_as_it_is() -> None:
    value = {"live": "7f3a9", "n": [1, 2.5, True, None]}
    assert snapshot(value, b"", (), 2000, HIDDEN).text == json.dumps(value, separators=(",", ":"))
    assert not NOTHING.may_be_in("anything")
    assert "7f3a9c" not in repr(HIDDEN)


def test_a_credential_that_is_a_number_is_masked_as_one_and_the_snapshot_is_still_json() -> None:
    text = snapshot({"pin": 48151623, "n": 10**600}, b"", (), 2000, Hidden(["48151623", "1"])).text
    assert text is not None
    assert json.loads(text) == {"pin": "[redacted]", "n": 10**600}


@pytest.mark.parametrize("place", range(0, 120, 7))
def test_a_credential_across_any_cut_shows_nothing_of_itself(place: int) -> None:
    text = "x" * place + KEY + "y" * 5000
    for shown in (told(text, 100, HIDDEN), snapshot({"a": text}, b"", (), 100, HIDDEN).text):
        assert shown is not None
        assert len(shown) <= 100
        assert "live" not in shown


def test_secrets_that_shrink_bring_no_cut_one_into_view() -> None:
    """Masks are shorter than what they mask: what the budget cuts far behind the cap may end up in front of it."""
    pair = f'{{"token": "eyJhbGciOiJIUzI1NiJ9.{"a" * 900}"}} {KEY} '
    for pad in range(0, 1000, 31):
        for text in (snapshot({"a": "p" * pad + pair * 20}, b"", (), 1000, HIDDEN).text, told(pair * 20, 500, HIDDEN)):
            assert text is not None
            assert "live" not in text
            assert "aaa" not in text


@pytest.mark.parametrize("value", ["/" + "a" * 8, "-" * 8, '\\"' * 4])
def test_the_work_on_hostile_text_is_bounded(value: str) -> None:
    hidden = Hidden([value])
    began = time.process_time()
    for piece in ("\\", "-", "/", "%2f", "\\u", "a"):
        snapshot({"a": piece * 2_000_000}, b"", (), 65_536, hidden)
    assert time.process_time() - began < 3.0
