"""A fetch that cannot be led astray: real sockets, hostile servers."""

import asyncio
import ipaddress
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest

from proxy.auth.guarded_fetch import FetchError, Limits, fetch, is_admissible

HERE = Limits(timeout_s=2.0, max_bytes=1000, allow_private=True)


@asynccontextmanager
async def serving(answer: bytes, *, hang: bool = False) -> AsyncGenerator[tuple[str, list[bytes]]]:
    """A server that answers the same bytes to everybody, and what it was sent."""
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answer)
        if hang:
            await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks", seen


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"content-length: %d" % len(body), b"connection: close", *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


async def test_a_small_document_is_fetched_with_the_hosts_own_name():
    async with serving(ok(b"{}")) as (url, seen):
        named = url.replace("127.0.0.1", "localhost")
        assert await fetch(named, HERE) == b"{}"
    assert b"host: localhost:" in seen[0].lower()
    assert b"authorization" not in seen[0].lower()


async def test_a_private_address_is_refused_unless_allowed():
    async with serving(ok(b"{}")) as (url, seen):
        with pytest.raises(FetchError, match="may not be called"):
            await fetch(url, Limits(2.0, 1000))
    assert seen == []


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\ncontent-length: 2\r\n\r\n{}",
        ok(b"x" * 1001),
        ok(b"{}", b"content-encoding: gzip"),
        b"not http at all\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}",
    ],
)
async def test_a_hostile_answer_is_an_error(answer: bytes):
    async with serving(answer) as (url, _):
        with pytest.raises(FetchError):
            await fetch(url, HERE)


async def test_a_server_that_drips_for_ever_is_cut_off_in_time():
    async with serving(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{", hang=True) as (url, _):
        with pytest.raises(FetchError, match=r"within 0\.2 s"):
            await fetch(url, Limits(0.2, 1000, allow_private=True))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://as.example/x",
        "file:///etc/passwd",
        "https://",
        "//as.example",
        "http://user:pw@127.0.0.1/",
        "http://127.0.0.1:99999/",
        "http://[::1",
        "http://169.254.169.254/latest/meta-data",
        "http://[::ffff:169.254.169.254]/",
        "http://0.0.0.0:1/",
        "",
    ],
)
async def test_an_address_that_is_not_to_be_called_is_an_error(url: str):
    with pytest.raises(FetchError):
        await fetch(url, HERE)


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("8.8.8.8", True, True),
        ("2001:4860:4860::8888", True, True),
        ("10.0.0.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("100.64.0.1", False, True),
        ("fd00::1", False, True),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("::ffff:10.0.0.1", False, True),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("64:ff9b::a00:1", False, True),
        ("2002:a00:1::", False, True),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
    ],
)
def test_which_addresses_may_be_called(address: str, public: bool, private: bool):
    found = ipaddress.ip_address(address)
    assert is_admissible(found, allow_private=False) is public
    assert is_admissible(found, allow_private=True) is private
