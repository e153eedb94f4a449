"""Wakes supervisord's poll on a signal: reaping in milliseconds instead of one or two seconds.

Since PEP 475 a signal no longer interrupts `poll(1s)`, so SIGCHLD and SIGTERM wait for its timeout, and events queued
while reaping wait for one more turn of the loop. A pipe in the poll set, fed by `set_wakeup_fd`, ends both waits.
"""

import contextlib
import os
import signal

from supervisor_plugin.supervisord import Options, pending_signals, subscribe


class Waker:
    """A member of supervisord's socket map whose read end becomes ready when anything happens."""

    closed = False

    def __init__(self, options: Options) -> None:
        self.options = options
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)
        signal.set_wakeup_fd(self.writer, warn_on_full_buffer=False)
        self._join(options.get_socket_map())
        subscribe("Event", self.poke)

    def _join(self, socket_map: dict[int, object]) -> None:
        # After SIGHUP supervisord has closed the old pipe, but its map still lists it: that would spin the loop.
        for descriptor in [fd for fd, member in socket_map.items() if isinstance(member, Waker)]:
            del socket_map[descriptor]
        socket_map[self.reader] = self

    def poke(self, _event: object = None) -> None:
        """Make the current or the next poll return at once."""
        with contextlib.suppress(OSError):
            os.write(self.writer, b"x")

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        with contextlib.suppress(OSError):
            os.read(self.reader, 4096)
        if pending_signals(self.options) > 1:
            self.poke()

    def handle_write_event(self) -> None:
        """Do nothing: this member is never writable."""

    def handle_error(self) -> None:
        """Ignore a failed read: the next poll reads again."""
