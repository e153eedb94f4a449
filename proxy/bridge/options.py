"""The command line of a bridge."""

import argparse
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from proxy.bridge.residents import Sharing


@dataclass(frozen=True, slots=True)
class Options:
    name: str
    host: str
    port: int
    path: str
    token_file: Path
    modern_child: Sharing
    max_children: int
    idle_s: float
    start_timeout_s: float
    grace_s: float
    max_frame_bytes: int
    events_after_s: float
    poll_s: float | None
    argv: tuple[str, ...]


def parse_options(arguments: Sequence[str]) -> Options:
    """Return the options, or print the usage and exit with 2."""
    parser = _build_parser()
    own, dashes, argv = _split(arguments)
    values = cast("dict[str, object]", vars(parser.parse_args(own)))
    if not dashes or not argv:
        parser.error("the server's command must follow after --")
    return Options(**values, argv=tuple(argv))  # type: ignore[arg-type]


def _split(arguments: Sequence[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return list(arguments), False, []
    position = list(arguments).index("--")
    return list(arguments[:position]), True, list(arguments[position + 1 :])


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m proxy.bridge", description="A stdio MCP server behind HTTP.")
    parser.add_argument("--name", required=True, help="the server's name, for the log")
    parser.add_argument("--host", type=_loopback, default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one and says which")
    parser.add_argument("--path", default="/mcp")
    parser.add_argument("--token-file", type=Path, required=True, help="the secret that the proxy shows")
    parser.add_argument("--modern-child", choices=["shared", "per-principal"], default="shared")
    parser.add_argument("--max-children", type=_positive_int, default=64, help="sessions and per-principal children")
    parser.add_argument("--idle-s", type=_positive, default=1800.0)
    parser.add_argument("--start-timeout-s", type=_positive, default=30.0)
    parser.add_argument("--grace-s", type=_positive, default=3.0, help="between SIGTERM and SIGKILL")
    parser.add_argument("--max-frame-bytes", type=_positive_int, default=16 * 1024 * 1024)
    parser.add_argument("--events-after-s", type=float, default=1.0, help="legacy answers become streams after this")
    parser.add_argument("--poll-s", type=_positive, default=None, help="legacy streams close after this much silence")
    return parser


def _loopback(text: str) -> str:
    """An address that no other machine can reach."""
    if not ipaddress.ip_address(text).is_loopback:
        raise argparse.ArgumentTypeError("must be a loopback address")
    return text


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _positive_int(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError("must be above 0")
    return value
