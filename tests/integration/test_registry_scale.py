"""Several hundred servers: the gate's work grows with their number and no faster, and its memory is bounded."""

import time
import tracemalloc
from pathlib import Path

from registry.gate import check
from registry.loader import load
from tests.unit.registry.making import NOW, registry_file

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


def fleet(count: int) -> str:
    numbers = range(count)
    implied = "".join(f'    "s{i}:admin": ["s{i}:write"]\n    "s{i}:write": ["s{i}:read"]\n' for i in numbers)
    servers = "".join(SERVER.format(i=i, port=2000 + i) for i in numbers)
    agents = "".join(f"  a{i}: {{subjects: [u{i}], servers: {{s{i}: {{tools: [list, get]}}}}}}\n" for i in numbers)
    head = "version: 1\nfleet: {ports: {first: 2000, last: 60000}}\n"
    return f"{head}permissions:\n  implies:\n{implied}servers:\n{servers}agents:\n{agents}"


def seconds(path: Path, environ: dict[str, str]) -> float:
    """Return the processor time of one gate, the best of three."""
    rounds: list[float] = []
    for _ in range(3):
        started = time.process_time()
        assert check(path, environ=environ, now=NOW).ok
        rounds.append(time.process_time() - started)
    return min(rounds)


def test_four_times_the_servers_take_about_four_times_the_work(tmp_path):
    environ = {"PATH": "/usr/bin:/bin", "TOKEN": "t", **{f"KEY_{i}": f"{i:-<40}" for i in range(400)}}
    small = seconds(registry_file(tmp_path, fleet(100), "small.yaml"), environ)
    large = seconds(registry_file(tmp_path, fleet(400), "large.yaml"), environ)
    assert large / small < 8, f"100 servers {small:.3f} s, 400 servers {large:.3f} s"


def test_a_worst_case_of_mistakes_stays_bounded(tmp_path):
    """Each of 400 servers is wrong in several ways: the findings are listed, and listing them costs no square."""
    wrong = fleet(400).replace("port: 2", "prot: 2").replace("kid:", "kidd:").replace("any_of", "anyof")
    started = time.process_time()
    result = check(registry_file(tmp_path, wrong), environ={}, now=NOW)
    assert not result.ok
    assert len(result.problems) < 20_000
    assert time.process_time() - started < 60


def test_memory_for_a_full_file_of_short_values_is_bounded(tmp_path):
    path = registry_file(tmp_path, "a: [" + "1," * 190_000 + "]\n")
    tracemalloc.start()
    try:
        load(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 300_000_000
