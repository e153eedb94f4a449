"""What is wrong with a message, before anybody asked who sent it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WireFault:
    """`code` is stable (`wire.…`); `id` is that of the request where it could be read, to be echoed in the answer."""

    code: str
    status: int
    jsonrpc_code: int
    message: str
    id: int | str | None = None
    data: dict[str, object] | None = None
