"""`postern proxy`: sockets, signals, drain. Exit codes: 0 drained, 1 registry findings, 3 cannot start."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Generator

import click
import uvicorn
import uvloop

from proxy.app import App
from proxy.audit.errors import AuditError
from proxy.logs import configure_logging
from proxy.reloading import RegistryFindingsError, StartError, load_fleet, reload_on_signal
from proxy.runtime import Runtime
from proxy.settings import Settings, SettingsError
from registry.database.errors import DatabaseError
from registry.secrets import SecretError, SecretReader

_BACKLOG = 2048
_KEEPALIVE_S = 75
_RECORD_S = 5.0
# Accepted sockets inherit these: a client that vanished without a word frees its streams after two minutes.
_DEAD_PEERS = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 15),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 4),
)

_log = logging.getLogger("postern.server")


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: draining is ours."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. IPPROTO_TCP is named because uvicorn sets TCP_NODELAY only then (44 ms a request)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    for option, value in _DEAD_PEERS:
        listener.setsockopt(*option, value)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on {host}:{port}: {error.strerror}; see `proxy.port` in the registry"
        ) from error
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


async def serve(settings: Settings, only: str | None, runtime_type: type[Runtime]) -> None:
    """Answer requests until SIGTERM or SIGINT, then drain. SIGHUP reads the registry again."""
    fleet = load_fleet(settings.registry, only)
    secrets = SecretReader(settings.registry.parent, os.environ)
    listener = bind(fleet.proxy.host, fleet.proxy.port)
    with contextlib.closing(listener):
        async with runtime_type(settings, fleet, secrets) as runtime:
            server = _Server(_uvicorn_config(App(runtime), fleet.proxy.drain_s))
            _drain_on_signals(server, runtime)
            reloading = reload_on_signal(runtime, only)
            gc.collect()
            gc.freeze()
            _log.info("listening on %s:%d", fleet.proxy.host, fleet.proxy.port)
            await server.serve(sockets=[listener])
            reloading.cancel()
            await _until_recorded(runtime)


def _uvicorn_config(app: App, drain_s: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # pyright: ignore[reportArgumentType] -- uvicorn types scopes as TypedDicts, the seam is a plain mapping
        http="httptools",
        loop="uvloop",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        backlog=_BACKLOG,
        timeout_keep_alive=_KEEPALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )


def _drain_on_signals(server: uvicorn.Server, runtime: Runtime) -> None:
    def drain() -> None:
        server.force_exit = runtime.draining
        runtime.drain()
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, drain)


async def _until_recorded(runtime: Runtime) -> None:
    """Requests that the drain has cut off still write their rows."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_RECORD_S):
            while runtime.executor.in_flight:  # noqa: ASYNC110 -- only a bounded moment, at the very end
                await asyncio.sleep(0.02)


@click.command("proxy")
@click.option("--server", "only", metavar="NAME", help="Be the sidecar of one server: load only its section.")
def command(only: str | None) -> None:
    """Run the proxy in front of the fleet of $POSTERN_REGISTRY."""
    run(only, Runtime)


def run(only: str | None, runtime_type: type[Runtime]) -> None:
    """Serve until told to stop; exit 3 with one sentence where that is not possible."""
    try:
        settings = Settings.from_env(os.environ)
        configure_logging(settings.log_level)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, only, runtime_type))
    except RegistryFindingsError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    except (SettingsError, StartError, SecretError, DatabaseError, AuditError) as error:
        click.echo(f"postern proxy: {error}", err=True)
        sys.exit(3)
