"""Who holds a port: by trying to bind it, and by matching listening sockets with the descriptors of processes."""

import errno
import ipaddress
import os
import socket
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from supervisor_plugin.processes import PROC, pids

_TABLES = ("net/tcp", "net/tcp6")
_LISTEN = "0A"


@dataclass(frozen=True, slots=True)
class Holder:
    """The process that listens, as far as this user may see."""

    pid: int | None
    name: str

    def __str__(self) -> str:
        return f"pid {self.pid} ({self.name})" if self.pid is not None else "a process of another user"


def is_free(port: int) -> bool:
    """Whether a server could listen there now. Connections of a former server that still linger do not count."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                return False
            raise
    return True


def _listening() -> Iterator[tuple[str, str, int]]:
    """Yield inode, address as the kernel writes it, and port of every TCP socket that listens in our namespace."""
    for table in _TABLES:
        try:
            lines = (PROC / "self" / table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTEN:
                address, _, port = fields[1].rpartition(":")
                yield fields[9], address, int(port, 16)


def listening_inodes() -> dict[str, int]:
    """Map the inode of every listening TCP socket of this network namespace to its port."""
    return {inode: port for inode, _, port in _listening()}


def open_addresses(processes: Iterable[int], port: int) -> list[str]:
    """Return the addresses other than loopback on which any of these processes listens on this port."""
    bound = {inode: parse_address(address) for inode, address, listening in _listening() if listening == port}
    found = {bound[inode] for pid in processes for inode in _sockets(pid) if inode in bound}
    return sorted(str(address) for address in found if not _is_loopback(address))


def parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Read an address of `/proc/net/tcp`: 32-bit words, each in the byte order of the machine."""
    raw = bytes.fromhex(text)
    words = (raw[start : start + 4] for start in range(0, len(raw), 4))
    return ipaddress.ip_address(b"".join(word[::-1] if sys.byteorder == "little" else word for word in words))


def _is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def ports_of(processes: Iterable[int]) -> set[int]:
    """Return the ports on which any of these processes listens."""
    inodes = listening_inodes()
    return {inodes[inode] for pid in processes for inode in _sockets(pid) if inode in inodes}


def holder(port: int) -> Holder | None:
    """Return who listens on a port; None if nobody does. Looks at every process: for reports, not for loops."""
    wanted = {inode for inode, listening in listening_inodes().items() if listening == port}
    if not wanted:
        return None
    for pid in pids():
        if wanted & _sockets(pid):
            return Holder(pid, _name(pid))
    return Holder(None, "")


def _sockets(pid: int) -> set[str]:
    directory = PROC / str(pid) / "fd"
    found: set[str] = set()
    try:
        descriptors = os.listdir(directory)  # noqa: PTH208 - names only
    except OSError:
        return found
    for descriptor in descriptors:
        try:
            target = os.readlink(directory / descriptor)  # noqa: PTH115 - no path, but `socket:[INODE]`
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def _name(pid: int) -> str:
    try:
        return (PROC / str(pid) / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "?"
