"""Loopback ports for what tests start: free now, given out once, and none that the system itself gives to clients."""

import os
import socket
from collections.abc import Iterator
from itertools import chain, cycle

FIRST, LAST = 20_000, 29_999
_SHARES = 4  # of the range: test processes that run side by side have one each


def free_port() -> int:
    """Return a port that nobody listens on, and that was not returned lately."""
    while True:
        port = next(_candidates)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _share() -> Iterator[int]:
    """Return the ports of this process's share, over and over, from another place in each process."""
    size = (LAST - FIRST + 1) // _SHARES
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    ports = range(FIRST + worker % _SHARES * size, FIRST + (worker % _SHARES + 1) * size)
    begin = os.getpid() * 37 % size
    return cycle(chain(ports[begin:], ports[:begin]))


_candidates = _share()
