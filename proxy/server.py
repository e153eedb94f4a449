"""`postern proxy`: sockets, signals, drain. Exit codes: 0 drained, 1 registry findings, 3 cannot start."""

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import click
import uvloop

from proxy.app import App
from proxy.audit.errors import AuditError
from proxy.edge import Listener
from proxy.logs import configure_logging
from proxy.reloading import RegistryFindingsError, StartError, load_fleet, reload_on_signal
from proxy.runtime import Runtime
from proxy.settings import Settings, SettingsError
from proxy.workers import Worker, run_workers
from registry.database.errors import DatabaseError
from registry.models import Fleet
from registry.secrets import SecretError, SecretReader

_BACKLOG = 2048
_DESCRIPTORS = 65_536
_RECORD_S = 5.0
# A call makes some hundred objects and no cycles: with Python's own threshold of 700 a tenth of its cost is collecting.
_GC_THRESHOLDS = (50_000, 20, 50)
# Accepted sockets inherit these: a client that vanished without a word frees its streams after two minutes.
_DEAD_PEERS = (
    ((socket.SOL_SOCKET, socket.SO_KEEPALIVE), 1),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPIDLE), 60),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPINTVL), 15),
    ((socket.IPPROTO_TCP, socket.TCP_KEEPCNT), 4),
)

_log = logging.getLogger("postern.server")


def bind(host: str, port: int, *, is_shared: bool = False) -> socket.socket:
    """Return a listening socket; several workers share a port. With IPPROTO_TCP the loop sets TCP_NODELAY (44 ms)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if is_shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
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


async def serve(
    settings: Settings, fleet: Fleet, only: str | None, runtime_type: type[Runtime], worker: Worker | None = None
) -> None:
    """Answer requests until SIGTERM or SIGINT, then drain. SIGHUP reads the registry again."""
    secrets = SecretReader(settings.registry.parent, os.environ)
    listening = bind(fleet.proxy.host, fleet.proxy.port, is_shared=worker is not None)
    with contextlib.closing(listening):
        async with runtime_type(settings, fleet, secrets) as runtime:
            app = App(runtime)
            listener = Listener(app, runtime.exchange_type, refuse=app.refuse, max_connections=take_descriptors() // 2)
            stopped = _drain_on_signals(listener, runtime, worker)
            reload_on_signal(runtime, only)
            gc.collect()
            gc.freeze()
            gc.set_threshold(*_GC_THRESHOLDS)
            _log.info("listening on %s:%d", fleet.proxy.host, fleet.proxy.port)
            await listener.start(listening)
            if worker is not None:
                worker.beat(asyncio.get_running_loop())
            await stopped.wait()
            await listener.close(runtime.fleet.proxy.drain_s)
            await _until_recorded(runtime)


def take_descriptors() -> int:
    """Raise the limit of open files as far as it goes, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    return _DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


def _drain_on_signals(listener: Listener, runtime: Runtime, worker: Worker | None) -> asyncio.Event:
    """Return what is set by the first signal, or by the end of whoever started this worker; the second one hurries."""
    stopped = asyncio.Event()

    def drain() -> None:
        if runtime.draining:
            listener.cancel()
        runtime.drain()
        stopped.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, drain)
    if worker is not None:
        worker.on_orphaned(loop, drain)
    return stopped


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
    sys.exit(_exit_code(partial(_run, only, runtime_type)))


def _run(only: str | None, runtime_type: type[Runtime]) -> int:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})  # it waits for `reload_on_signal`, or for the workers
    settings = Settings.from_env(os.environ)
    configure_logging(settings.log_level)
    fleet = load_fleet(settings.registry, only)
    if fleet.proxy.workers == 1:
        return _serve_alone(serve(settings, fleet, only, runtime_type))

    def work(worker: Worker) -> int:
        return _serve_alone(serve(settings, load_fleet(settings.registry, only), only, runtime_type, worker))

    return run_workers(fleet.proxy.workers, lambda worker: _exit_code(partial(work, worker)))


def _serve_alone(serving: Coroutine[Any, Any, None]) -> int:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)
    return 0


def _exit_code(work: Callable[[], int]) -> int:
    """Return the exit code of `work`; where it could not begin, say why."""
    try:
        return work()
    except RegistryFindingsError as error:
        click.echo(str(error), err=True)
        return 1
    except (SettingsError, StartError, SecretError, DatabaseError, AuditError) as error:
        click.echo(f"postern proxy: {error}", err=True)
        return 3
