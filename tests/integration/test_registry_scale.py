"""Several hundred servers: the work of the gate, and of a reload behind it, grows with their number and no faster.

Work is counted in calls and not in seconds: the count is the same on every machine, however busy it is, and whatever
the heap of this process holds (a full garbage collection of it in the middle made one of two runs look nine times as
long).
"""

import tracemalloc
from cProfile import Profile
from pathlib import Path
from pstats import Stats

import pytest

from proxy.auth.bearer import ServerAuth
from proxy.authorize import Policy
from proxy.shared import Shared
from registry.gate import check
from registry.loader import load
from registry.secret_store import STORE_KEY, EncryptedStore, new_key
from registry.secrets import Secret, SecretReader
from tests.unit.registry.making import NOW, registry_file

CALLS_PER_SERVER = 4_000
"""The most that one server may cost: 400 servers take less than 1.6 million calls, and those a fraction of a second."""

SERVER = """\
  s{i}:
    display_name: Server {i}
    description: Does what server {i} does.
    port: {port}
    command: [sh, -c, "serve {i}"]
    env: {{TZ: UTC, TOKEN: {{value: "env:TOKEN", secret: true}}}}
    oauth: {{scopes: ["s{i}:read"], keys: [{{kid: "1", secret: "env:KEY_{i}"}}]}}
    tools:
      list: {{scopes: ["s{i}:read"]}}
      get: {{scopes: ["s{i}:read"], output_schema: {{type: object, properties: {{a: {{type: string}}}}}}}}
      put: {{scopes: ["s{i}:write"]}}
      drop: {{any_of: [["s{i}:admin"], ["s{i}:write", "s{i}:read"]]}}
"""
HEAD = "version: 1\nfleet: {ports: {first: 2000, last: 60000}}\n"


def server(i: int) -> str:
    return SERVER.format(i=i, port=2000 + i)


def fleet(count: int) -> str:
    numbers = range(count)
    implied = "".join(f'    "s{i}:admin": ["s{i}:write"]\n    "s{i}:write": ["s{i}:read"]\n' for i in numbers)
    agents = "".join(f"  a{i}: {{subjects: [u{i}], servers: {{s{i}: {{tools: [list, get]}}}}}}\n" for i in numbers)
    servers = "".join(map(server, numbers))
    return f"{HEAD}permissions:\n  implies:\n{implied}servers:\n{servers}agents:\n{agents}"


def plain(directory: Path, count: int) -> Path:
    return registry_file(directory, fleet(count))


def with_every_scope_and_speaker_named(directory: Path, count: int) -> Path:
    scopes = ", ".join(f'"s{i}:admin"' for i in range(count))
    names = ", ".join(f"s{i}" for i in range(count))
    key = "{kid: k, algorithm: hmac-sha256, secret: env:KEY_SSO}"
    proxies = f"trusted_proxies:\n  sso: {{servers: [{names}], permissions: [{scopes}], keys: [{key}]}}\n"
    text = fleet(count).replace("permissions:\n", f"permissions:\n  scopes: [{scopes}]\n", 1)
    return registry_file(directory, text + proxies)


def with_a_file_for_each(directory: Path, count: int) -> Path:
    for i in range(count):
        registry_file(directory, f"servers:\n{server(i)}", f"servers/{i:04}.yaml")
    return registry_file(directory, f"{HEAD}include: [servers/*.yaml]\n")


def with_every_secret_in_the_store(directory: Path, count: int) -> Path:
    store = EncryptedStore.beside(directory, ENVIRON)
    for name in ("TOKEN", *(f"KEY_{i}" for i in range(count))):
        store.put(name, Secret(f"{name:-<40}".encode()), now=NOW)
    return registry_file(directory, fleet(count).replace('"env:', '"store:'))


ENVIRON = {
    "PATH": "/usr/bin:/bin", "TOKEN": "t", STORE_KEY: new_key(), "KEY_SSO": "s" * 40,
    **{f"KEY_{i}": f"{i:-<40}" for i in range(200)},
}  # fmt: skip


def calls_of_a_gate(path: Path) -> int:
    assert check(path, environ=ENVIRON, now=NOW).ok  # what is made once in a process is made now
    with Profile() as profile:
        check(path, environ=ENVIRON, now=NOW)
    return int(vars(Stats(profile))["total_calls"])


@pytest.mark.parametrize(
    "made", [plain, with_every_scope_and_speaker_named, with_a_file_for_each, with_every_secret_in_the_store]
)
def test_four_times_the_servers_take_four_times_the_work(made, tmp_path):
    small = calls_of_a_gate(made(tmp_path / "small", 50))
    large = calls_of_a_gate(made(tmp_path / "large", 200))
    assert large / small < 4.4, f"50 servers {small:,} calls, 200 servers {large:,} calls"
    assert large / 200 < CALLS_PER_SERVER


def calls_of_a_reload(path: Path) -> int:
    """Compile the doors and policies of a fleet, as the proxy does at its start and between two requests at a reload."""
    fleet = check(path, environ=ENVIRON, now=NOW).fleet
    assert fleet is not None
    secrets = SecretReader(path.parent, ENVIRON)
    with Profile() as profile:
        shared = Shared.of(fleet)
        for server in fleet.enabled_servers():
            ServerAuth.build(fleet, server, secrets, None, shared)
            Policy.build(fleet, server, shared)
    return int(vars(Stats(profile))["total_calls"])


@pytest.mark.parametrize("made", [plain, with_every_scope_and_speaker_named])
def test_a_reload_of_four_times_the_servers_takes_four_times_the_work(made, tmp_path):
    small = calls_of_a_reload(made(tmp_path / "small", 50))
    large = calls_of_a_reload(made(tmp_path / "large", 200))
    assert large / small < 4.4, f"50 servers {small:,} calls, 200 servers {large:,} calls"
    assert large / 200 < CALLS_PER_SERVER


def test_a_worst_case_of_mistakes_stays_bounded(tmp_path):
    """Each of 400 servers is wrong in several ways: the findings are listed, and listing them costs no square."""
    wrong = fleet(400).replace("port: 2", "prot: 2").replace("kid:", "kidd:").replace("any_of", "anyof")
    path = registry_file(tmp_path, wrong)
    with Profile() as profile:
        result = check(path, environ={}, now=NOW)
    assert not result.ok
    assert len(result.problems) < 20_000
    calls = int(vars(Stats(profile))["total_calls"])
    assert calls / 400 < 10 * CALLS_PER_SERVER, f"{calls:,} calls"


def peak_of_loading(path: Path) -> int:
    tracemalloc.start()
    try:
        load(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_number_of_values_and_no_faster(tmp_path):
    """With the limit of 200,000 values (`test_source.py`) a check of the shortest ones stays below 300 MB."""
    small, large = (
        peak_of_loading(registry_file(tmp_path, "a: [" + "1," * count + "]\n", f"{count}.yaml"))
        for count in (2_500, 10_000)
    )
    assert large / 10_000 < 1_500
    assert large / small < 4.4
