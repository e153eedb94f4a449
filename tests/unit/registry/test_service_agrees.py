"""The registry's answer about a caller's tools is the one that the proxy gives live: two texts of one rule, held together."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.auth.identity import Authenticated
from proxy.authorize import Policy
from registry.service import Caller, Registry
from tests.unit.registry.making import ENVIRON, registry_file
from tests.unit.registry.test_service import TEXT

NAMES = ("read", "either", "free", "sum", "other", "*")
SCOPES = ("a:use", "a:read", "a:admin", "b:use", "x", "unknown")


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Registry:
    return Registry.load(registry_file(tmp_path_factory.mktemp("agrees"), TEXT), ENVIRON)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.frozensets(st.sampled_from(SCOPES)),
    st.sampled_from(["ada", "somebody"]),
    st.sampled_from([None, "cli", "another"]),
)
def test_tools_for_names_what_the_policy_allows(
    service: Registry, scopes: frozenset[str], subject: str, client: str | None
):
    found = {(each.server, each.name) for each in service.tools_for(Caller(scopes, subject, client))}
    identity = Authenticated("token", "issuer", subject, client, scopes, float("inf"))
    for server in service.list():
        policy = Policy.build(service.fleet, server)
        for name in NAMES:
            is_other = name not in server.tools and (server.name, "*") in found
            listed = (server.name, name) in found or is_other
            assert listed == policy.decide_thing(identity, "tools", name).allowed, (server.name, name)
