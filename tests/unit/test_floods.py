"""Which refusals share a row, and who counts as one source (SPEC A7)."""

import asyncio

import pytest

from proxy.audit.record import Outcome
from proxy.auth.identity import Anonymous
from proxy.call import Call
from proxy.errors import Refusal
from proxy.floods import Floods, Told, source_of, too_many
from registry.models import Server

UNKNOWN = Told("route.unknown_server", "there is no such server")
SERVER = Server.model_validate(
    {"name": "a", "display_name": "A", "description": "a", "type": "external", "endpoint": "https://a.example/mcp"}
)


def call(server: str = "a", remote: str = "192.0.2.1", known: Server | None = None) -> Call:
    made = Call.arrive(server, "POST", (), remote)
    made.server, made.identity = known, Anonymous()
    return made


@pytest.mark.parametrize(("known", "rows"), [(None, [30]), (SERVER, [1] * 30)])
async def test_the_names_of_servers_that_do_not_exist_make_no_rows(known: Server | None, rows: list[int]) -> None:
    written: list[Outcome] = []

    async def commit(_: Call, outcome: Outcome) -> bool:
        written.append(outcome)
        return True

    floods = Floods(0, 10, commit, hold_s=0.01)
    held = await asyncio.gather(*(floods.hold(call(f"no-{n}", known=known), UNKNOWN) for n in range(30)))
    assert [outcome.repeats for outcome in written] == rows
    assert len({execution for execution, _ in held}) == len(rows)
    assert all(is_committed for _, is_committed in held)


SAME = [
    ("192.0.2.1", "192.0.2.2", False),
    ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
    ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
    ("::ffff:192.0.2.1", "192.0.2.1", True),
    ("fe80::1%eth0", "fe80::2%eth0", True),
    ("unknown", "not:an:address", False),
]


@pytest.mark.parametrize(("one", "other", "is_same"), SAME)
def test_a_network_of_ipv6_addresses_is_one_source(one: str, other: str, is_same: bool) -> None:
    assert (source_of(call(remote=one)) == source_of(call(remote=other))) is is_same


def test_a_flood_is_told_no_more_than_one_request_is() -> None:
    """An agent that asks long enough must not learn which tools there are."""
    told = ("authz.unknown_tool", "Unknown tool: write")
    alone = Refusal("authz.agent", 400, -32602, "agent helper does not declare write (tools)", told=told)
    code, sentence = too_many(alone, 30).answer()
    assert (code, sentence) == ("limit.refusals", "too many refused requests (Unknown tool: write)")
