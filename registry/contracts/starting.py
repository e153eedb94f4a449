"""Servers that do not run, for as long as `postern lock --start` asks them: each is a `postern run NAME` of ours."""

import asyncio
import os
import signal
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import IO, Final

from registry.contracts.catalogue import CatalogueError
from registry.models import Server
from registry.problems import printable

_POLL_S: Final = 0.05
_SHOWN_LINES, _SHOWN_BYTES = 5, 2_000


@asynccontextmanager
async def started(server: Server, registry: Path, environ: Mapping[str, str]) -> AsyncGenerator[None]:
    """Have an internal server run inside the block; raise `CatalogueError` with its last words where it will not.

    One that runs already, or is external, is left as it is. What was started is ended, with all its children.
    """
    if server.type == "external" or server.port is None or await _accepts(server.port):
        yield
        return
    argv = (sys.executable, "-P", "-m", "registry.cli", "run", server.name, "--file", str(registry))
    with tempfile.TemporaryFile() as said:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL, stdout=said, stderr=said, env=environ, start_new_session=True
        )
        try:
            await _until_it_listens(process, server, server.port, said)
            yield
        finally:
            await _end(process, server.lifecycle.stop_grace_s)


async def _until_it_listens(process: Process, server: Server, port: int, said: IO[bytes]) -> None:
    budget_s = server.health.start_budget_s
    try:
        async with asyncio.timeout(budget_s):
            while not await _accepts(port):
                if process.returncode is not None:
                    raise CatalogueError(f"it ended with exit code {process.returncode}{_last_words(said)}")
                await asyncio.sleep(_POLL_S)
    except TimeoutError as error:
        raise CatalogueError(f"it does not listen on port {port} after {budget_s:g} s{_last_words(said)}") from error


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


async def _end(process: Process, grace_s: float) -> None:
    """End the process and its group: politely, then not."""
    _signal_group(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(grace_s):
            await process.wait()
    except TimeoutError:
        pass
    finally:
        _signal_group(process, signal.SIGKILL)
    await process.wait()


def _signal_group(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _last_words(said: IO[bytes]) -> str:
    said.seek(max(0, said.seek(0, os.SEEK_END) - _SHOWN_BYTES))
    lines = said.read().decode(errors="replace").strip().splitlines()[-_SHOWN_LINES:]
    return "".join([": ", " | ".join(printable(line.strip()) for line in lines)]) if lines else ""
