"""RFC 8785: the published vectors, and what the RFC leaves open."""

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.contracts.canonical import NotCanonicalError, canonical, digest, number

# RFC 8785, Appendix B: IEEE 754 bits and their spelling.
NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}
# RFC 8785, 3.2.2 and 3.2.3.
EXAMPLE = r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
  "string": "\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
SPELT = r"""{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\u000f\nA'B\"\\\\\"/"}"""
SORTED = ["\r", "1", "\x80", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize(("bits", "spelt"), NUMBERS.items())
def test_numbers_are_spelt_as_ecmascript_does(bits, spelt) -> None:
    assert number(struct.unpack(">d", bytes.fromhex(bits))[0]) == spelt


def test_example_of_the_rfc() -> None:
    assert canonical(json.loads(EXAMPLE)).decode() == SPELT


def test_keys_are_sorted_by_utf16_code_units() -> None:
    made = canonical(dict.fromkeys(reversed(SORTED), 0)).decode()
    assert list(json.loads(made)) == SORTED


def test_integers_beyond_double_precision_keep_their_digits() -> None:
    assert canonical([2**53 + 1, 2**70, -(10**40)]) == f"[{2**53 + 1},{2**70},{-(10**40)}]".encode()
    assert digest(2**53) != digest(2**53 + 1)


def test_one_value_has_one_digest_and_true_is_not_one() -> None:
    assert digest({"a": 1, "b": [1.0]}) == digest({"b": [1], "a": 1.0})
    assert len({digest(value) for value in (1, True, "1", [1], {"1": 1}, None, 0, False)}) == 8


@pytest.mark.parametrize("value", [math.nan, math.inf, "\ud800", {"\udfff": 1}, {1: 2}, object(), b"x"])
def test_what_json_has_not_has_no_canonical_form(value) -> None:
    with pytest.raises(NotCanonicalError):
        canonical(value)


def test_depth_is_bounded() -> None:
    deep: object = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(NotCanonicalError):
        canonical(deep)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_double_reads_back_as_itself(value) -> None:
    assert float(number(value)) == value


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
        max_leaves=15,
    )
)
def test_canonical_form_means_the_value(value) -> None:
    assert json.loads(canonical(value)) == value
    assert canonical(json.loads(canonical(value))) == canonical(value)
