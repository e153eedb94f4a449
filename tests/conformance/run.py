"""`scripts/conformance`: the official suite, direct and through what stands in front, compared check by check.

Exit codes: 0 nothing got worse, 1 something did or a run gave no result, 2 wrong usage, 3 the suite cannot be installed.
"""

import argparse
import contextlib
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.conformance import suite
from tests.conformance.results import Difference, Results, compare, count

OUTPUT: Final = suite.HOME / "results"
SERVERS_LOG: Final = OUTPUT / "servers.log"
# Streams from the first moment and polling, so that the scenarios about them have something to test.
BRIDGE_OPTIONS: Final = ("--events-after-s", "0.001", "--poll-s", "0.2")
SUITE_TIMEOUT_S: Final = 600.0


@dataclass(frozen=True, slots=True)
class Target:
    """An address and the headers that open it."""

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A server that the suite is run against, both ways. `http_variables` choose its port where no argument does."""

    stdio: tuple[str, ...]
    http: tuple[str, ...]
    http_variables: Mapping[str, str]


def upstream(name: str, port: int) -> Upstream:
    """Our fixture, or the reference server of the protocol's authors (legacy era only)."""
    if name == "fixture":
        fixture = (sys.executable, "-m", "tests.fakes.everything")
        return Upstream(fixture, (*fixture, "--port", str(port)), {})
    reference = (str(suite.node_home() / "bin/node"), str(suite.REFERENCE_SERVER.resolve()))
    return Upstream((*reference, "stdio"), (*reference, "streamableHttp"), {"PORT": str(port)})


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


@contextlib.contextmanager
def listening(command: Sequence[str], port: int, variables: Mapping[str, str]) -> Generator[str]:
    """A server process that accepts connections on a port; its address with the host name that the suite wants."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with SERVERS_LOG.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, **variables}
        )
    try:
        _wait_for(port, process, command)
        yield f"http://localhost:{port}/mcp"
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(port: int, process: "subprocess.Popen[bytes]", command: Sequence[str]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("localhost", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{' '.join(command)} does not start: see {SERVERS_LOG}")


@contextlib.contextmanager
def bridged(command: Sequence[str]) -> Generator[Target]:
    """A stdio server behind a bridge."""
    token, port = secrets.token_urlsafe(24), free_port()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "token")
        file.touch(mode=0o600)
        file.write_text(token)
        bridge = [sys.executable, "-m", "proxy.bridge", "--name", "stdio", "--port", str(port)]
        with listening([*bridge, "--token-file", str(file), *BRIDGE_OPTIONS, "--", *command], port, {}) as url:
            yield Target("bridge", url, {"x-postern-bridge": token})


@contextlib.contextmanager
def targets(options: argparse.Namespace) -> Generator[tuple[Target, Target]]:
    """The two addresses to compare; what is not running already is started."""
    port = options.port or free_port()
    server = upstream(options.upstream, port)
    with contextlib.ExitStack() as stack:
        url = options.direct or stack.enter_context(listening(server.http, port, server.http_variables))
        direct = Target("direct", url)
        if options.proxied:
            headers = {"authorization": f"Bearer {options.token}"} if options.token else {}
            yield direct, Target("proxied", options.proxied, headers)
        else:
            yield direct, stack.enter_context(bridged(server.stdio))


def run_one(name: str, direct: Target, other: Target, *, is_verbose: bool) -> bool:
    """Run one suite on both sides and print what differs; whether nothing got worse."""
    results = [
        suite.run(name, target.url, target.headers, OUTPUT / target.name / name, SUITE_TIMEOUT_S)
        for target in (direct, other)
    ]
    for target, result in zip((direct, other), results, strict=True):
        passed, failed = count(result)
        print(f"{name:12} {target.name:8} {passed:4} passed {failed:3} failed in {len(result)} scenarios")
    differences = compare(*results)
    if is_verbose:
        print_scenarios(*results)
    for difference in differences:
        print_difference(difference, other.name)
    is_complete = all(results)
    if not is_complete:
        print(f"{name:12} no result: see {OUTPUT}/*/{name}/suite.log")
    return is_complete and not any(difference.verdict == "worse" for difference in differences)


def print_scenarios(direct: Results, other: Results) -> None:
    for scenario in sorted({*direct, *other}):
        cells = [count({scenario: side.get(scenario, {})}) for side in (direct, other)]
        print(f"  {scenario:48} " + "   ".join(f"{passed}/{passed + failed}" for passed, failed in cells))


def print_difference(difference: Difference, name: str) -> None:
    where = f"{difference.scenario}: {difference.check}"
    print(f"  {difference.verdict}: {where}: direct {difference.direct}, {name} {difference.other}")


def parse_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/conformance")
    parser.add_argument("--suite", choices=sorted(suite.SUITES), action="append", help="default: all")
    parser.add_argument("--upstream", choices=["fixture", "reference"], default="fixture")
    parser.add_argument("--port", type=int, default=0, help="where the upstream listens; default: a free port")
    parser.add_argument("--direct", metavar="URL", help="an upstream that runs already; default: it is started")
    parser.add_argument("--proxied", metavar="URL", help="default: the upstream over stdio behind the bridge")
    parser.add_argument("--token", help="bearer token for --proxied")
    parser.add_argument("--verbose", action="store_true", help="a line per scenario")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str]) -> int:
    options = parse_options(arguments)
    try:
        suite.install()
    except suite.InstallError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    with targets(options) as (direct, other):
        fine = [run_one(name, direct, other, is_verbose=options.verbose) for name in options.suite or suite.SUITES]
    print("nothing got worse" if all(fine) else "something got worse")
    return 0 if all(fine) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
