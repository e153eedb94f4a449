"""What an earlier run left behind, ended before the next one begins and after this one ends.

Only what is provably ours is touched: a supervisord that runs our own configuration file, and processes that carry this
fleet's mark in their environment.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterator

from registry.database.locks import opened, takes
from supervisor_plugin.config import LISTENER
from supervisor_plugin.paths import Paths, read_instance
from supervisor_plugin.processes import (
    FLEET_MARK,
    PROC,
    SERVER_MARK,
    Identity,
    environment_of,
    is_alive,
    pids,
    signal_ours,
    start_ticks,
)

POLL_S = 0.05
GUARDIAN_LIMIT_S = 30.0
GRACE_S = 5.0
_MODULE = "supervisor.supervisord"


async def end_leftovers(paths: Paths, stop_limit_s: float, *, hurry: Callable[[], bool]) -> list[str]:
    """End every process of this fleet; return what was found, in words. `hurry` cuts the graces short."""
    found: list[str] = []
    instance = read_instance(paths)
    supervisords = list(running_supervisords(paths))
    found += [f"supervisord, pid {identity.pid}" for identity in supervisords]
    await _end(supervisords, lambda it, number: _signal_supervisord(paths, it, number), stop_limit_s, hurry)
    if instance is None:
        return found
    await _until(lambda: not _listener_cleans(paths), GUARDIAN_LIMIT_S, hurry)
    marked = dict(_marked(instance))
    found += [f"{name}, pid {identity.pid}" for identity, name in marked.items()]
    await _end(list(marked), lambda it, number: signal_ours(it, instance, number), GRACE_S, hurry)
    return found


def _marked(instance: str) -> Iterator[tuple[Identity, str]]:
    """Find every process of this fleet with the name of its program; the listener's has no server's name."""
    for pid in pids():
        environment = environment_of(pid)
        if environment.get(FLEET_MARK) == instance and is_alive(identity := Identity(pid, start_ticks(pid))):
            yield identity, environment.get(SERVER_MARK, LISTENER)


def running_supervisords(paths: Paths) -> Iterator[Identity]:
    """Find every supervisord that runs our configuration file, whoever started it."""
    for pid in pids():
        if _runs_our_configuration(pid, paths):
            yield Identity(pid, start_ticks(pid))


def _runs_our_configuration(pid: int, paths: Paths) -> bool:
    try:
        words = (PROC / str(pid) / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return _MODULE.encode() in words and os.fsencode(paths.conf) in words


def _signal_supervisord(paths: Paths, identity: Identity, number: signal.Signals) -> bool:
    try:
        descriptor = os.pidfd_open(identity.pid)  # pins the process first: what is checked is what the signal reaches
    except OSError:
        return False
    try:
        if start_ticks(identity.pid) != identity.ticks or not _runs_our_configuration(identity.pid, paths):
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(descriptor)


async def _end(
    identities: list[Identity],
    send: Callable[[Identity, signal.Signals], bool],
    grace_s: float,
    hurry: Callable[[], bool],
) -> None:
    def ended() -> bool:
        return not any(is_alive(identity) for identity in identities)

    for number, limit_s, cut in ((signal.SIGTERM, grace_s, hurry), (signal.SIGKILL, GRACE_S, _never)):
        for identity in filter(is_alive, identities):
            send(identity, number)
        await _until(ended, limit_s, cut)


def _never() -> bool:
    return False


async def _until(is_so: Callable[[], bool], limit_s: float, hurry: Callable[[], bool]) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while not is_so() and not hurry():  # noqa: ASYNC110 - other processes end, without a word to us
                await asyncio.sleep(POLL_S)
    return is_so()


def _listener_cleans(paths: Paths) -> bool:
    """Say whether a listener still holds its lock: after supervisord's death it ends servers and finishes rows."""
    if not paths.lock.exists():
        return False
    with opened(paths.lock) as descriptor:
        return not takes(descriptor)
