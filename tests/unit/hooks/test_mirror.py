"""Headers that mirror arguments follow a rewrite."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.hooks.mirror import mirrored
from proxy.wire.params import declared_params, param_mismatch

SCHEMA = {
    "type": "object",
    "properties": {
        "region": {"type": "string", "x-mcp-header": "Region"},
        "count": {"type": "integer", "x-mcp-header": "Count"},
        "deep": {"type": "object", "properties": {"on": {"type": "boolean", "x-mcp-header": "On"}}},
    },
}
DECLARED = declared_params(SCHEMA)
OLD = ((b"mcp-param-region", b"eu"), (b"mcp-param-other", b"kept"), (b"accept", b"*/*"))


def test_rewritten_arguments_are_mirrored_and_others_headers_kept() -> None:
    headers = mirrored(OLD, DECLARED, {"region": "us", "count": 3, "deep": {"on": True}})
    assert dict(headers) == {
        b"mcp-param-region": b"us", b"mcp-param-count": b"3", b"mcp-param-on": b"true",
        b"mcp-param-other": b"kept", b"accept": b"*/*",
    }  # fmt: skip


def test_argument_that_is_gone_has_no_header() -> None:
    assert b"mcp-param-region" not in dict(mirrored(OLD, DECLARED, {"deep": 7}))


@given(st.text(max_size=20), st.integers(), st.booleans())
def test_what_is_mirrored_agrees_with_the_body(region, count, on) -> None:
    arguments = {"region": region, "count": count, "deep": {"on": on}}
    assert param_mismatch(mirrored(OLD, DECLARED, arguments), arguments, DECLARED) is None
