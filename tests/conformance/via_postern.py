"""The same client, with a Postern between it and the suite's mock server.

python -m tests.conformance.via_postern URL     the database is that of CONFORMANCE_DSN
"""

import asyncio
import os
import secrets
import sys
import tempfile
import warnings
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from mcp.shared.exceptions import MCPDeprecationWarning

from tests.conformance.client import Task, perform
from tests.conformance.stage import OUTPUT, REGISTRY, everything_declared, keep_log, target
from tests.sidecar import Sidecar


def main(url: str) -> None:
    """Boot the proxy with the mock server as its upstream, and let the client talk to it."""
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    task = Task.from_environment(os.environ)
    # The database remembers what a server offers: each mock server has a name of its own.
    name = f"mock-{secrets.token_hex(4)}"
    section = {**everything_declared(), "type": "external", "endpoint": _endpoint(url)}
    with tempfile.TemporaryDirectory() as directory:
        sidecar = Sidecar(Path(directory), os.environ["CONFORMANCE_DSN"], {name: section}, REGISTRY)
        try:
            sidecar.start_proxy()
            reached = target(sidecar, name)
            asyncio.run(perform(task, reached.url, reached.headers))
        finally:
            sidecar.stop()
            keep_log(sidecar, OUTPUT / "client" / f"proxy-{task.scenario}-{task.version}.log")


def _endpoint(url: str) -> str:
    """The mock server's address as a registry has it: a number, not a name, and a path."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"127.0.0.1:{parts.port}", path=parts.path or "/"))


if __name__ == "__main__":
    main(sys.argv[-1])
