"""The two ends of the proxy without a network: bytes are handed to the protocols, and what they write is counted."""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

Headers = Sequence[tuple[bytes, bytes]]


class Wire(asyncio.Transport):
    """A transport that swallows what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.near, self._far = socket.socketpair()
        self.is_open = True
        self.answers = 0
        self.last = b""

    def write(self, data: Any) -> None:
        self.answers += 1
        self.last = data

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def is_closing(self) -> bool:
        return not self.is_open

    def is_reading(self) -> bool:
        return True

    def pause_reading(self) -> None:
        """Nothing is read anyway."""

    def resume_reading(self) -> None:
        """Nothing is read anyway."""

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"socket": self.near, "peername": ("127.0.0.1", 40000), "sockname": ("127.0.0.1", 8080)}.get(
            name, default
        )

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the sockets that lend it their numbers."""
        self.is_open = False
        self.near.close()
        self._far.close()


def request_bytes(headers: Headers, body: bytes) -> bytes:
    """Return a request as a client sends it."""
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    return b"POST /fast/mcp HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (lines, len(body), body)
