"""`python -m proxy.bridge --name NAME --port N --token-file PATH -- argv…`: run one bridge until SIGTERM.

Exit codes: 0 after a signal, 2 wrong usage, 3 cannot start.
"""

import asyncio
import os
import secrets
import signal
import socket
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Final

import uvicorn
import uvloop

from proxy.bridge.app import App, CallerToken
from proxy.bridge.child import Command, Spawner
from proxy.bridge.legacy import LegacyEndpoint
from proxy.bridge.lifeline import Lifeline
from proxy.bridge.modern import ModernEndpoint
from proxy.bridge.options import Options, parse_options
from proxy.bridge.places import Places
from proxy.bridge.residents import Residents
from proxy.bridge.sessions import Sessions

_OWN_PREFIX: Final = "POSTERN_"
_MARKS: Final = frozenset({"POSTERN_FLEET", "POSTERN_SERVER", "POSTERN_RUN"})
"""By these the boot scan finds children whose bridge and warden were both killed."""

_REAP_EVERY_S: Final = 5.0
_CANNOT_START: Final = 3


class Bridge:
    """Sessions, residents and the HTTP application on top of them, with one beginning and one end."""

    def __init__(self, options: Options, token: CallerToken, environment: Mapping[str, str]) -> None:
        command = Command(options.argv, environment, options.max_frame_bytes, options.grace_s)
        self._idle_s = options.idle_s
        self._lifeline = Lifeline(secrets.token_hex(16))
        spawner = Spawner(options.name, command, self._lifeline)
        places = Places(options.max_children)
        self._sessions = Sessions(spawner, places)
        self._residents = Residents(spawner, places, options.modern_child, options.start_timeout_s)
        self.app = App(
            token=token,
            path=options.path,
            cap_bytes=options.max_frame_bytes,
            modern=ModernEndpoint(self._residents, is_shared=options.modern_child == "shared"),
            legacy=LegacyEndpoint(
                self._sessions,
                start_timeout_s=options.start_timeout_s,
                events_after_s=options.events_after_s,
                poll_s=options.poll_s,
            ),
        )

    async def reap_idle(self) -> None:
        while True:
            await asyncio.sleep(min(_REAP_EVERY_S, self._idle_s / 4))
            self._sessions.reap_idle(self._idle_s)
            await self._residents.reap_idle(self._idle_s)

    async def close(self) -> None:
        """Answer what is in flight and end every child."""
        await asyncio.gather(self._sessions.close(), self._residents.close())

    def release(self) -> None:
        """End the warden, after everything that could start a child."""
        self._lifeline.close()


class Server(uvicorn.Server):
    """Closes the bridge first, so that no open stream holds up the shutdown."""

    def __init__(self, bridge: Bridge) -> None:
        config = uvicorn.Config(
            bridge.app,  # type: ignore[arg-type]
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            server_header=False,
            log_level="warning",
            timeout_keep_alive=120,
            timeout_graceful_shutdown=5,
        )
        super().__init__(config)
        self._bridge = bridge

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """Let the two signals end the loop and no more: uvicorn would raise them again, and the exit code be -15."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._bridge.close()
        await super().shutdown(sockets)


async def serve(options: Options, listener: socket.socket, token: CallerToken, environment: Mapping[str, str]) -> None:
    bridge = Bridge(options, token, environment)
    reaping = asyncio.create_task(bridge.reap_idle())
    address = listener.getsockname()
    sys.stderr.write(f"bridge {options.name} listening on http://{address[0]}:{address[1]}{options.path}\n")
    try:
        await Server(bridge).serve([listener])
    finally:
        reaping.cancel()
        await bridge.close()
        bridge.release()


def bind(host: str, port: int) -> socket.socket:
    """Listen with IPPROTO_TCP, or uvicorn's connections lose TCP_NODELAY: 44 ms a request."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def main(arguments: list[str]) -> int:
    options = parse_options(arguments)
    # The launcher has made this environment for the server; only our own variables are taken out of it.
    environment = {n: value for n, value in os.environ.items() if n in _MARKS or not n.startswith(_OWN_PREFIX)}
    try:
        token = CallerToken(options.token_file)
        listener = bind(options.host, options.port)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"bridge {options.name} cannot start: {error}\n")
        return _CANNOT_START
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(options, listener, token, environment))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
