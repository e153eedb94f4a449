"""Listening sockets of the bench's own servers: loopback, ephemeral, announced on standard output."""

import socket
import sys

BACKLOG = 8192


def listen(port: int) -> socket.socket:
    """Return a listening socket; IPPROTO_TCP is named because servers set TCP_NODELAY only then."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def announce(listener: socket.socket) -> None:
    """Say which port it is: one line, then silence."""
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
