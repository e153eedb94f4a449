"""Signed statements about chains: in the table, and in an append-only file outside the database (SPEC A6).

`head` and `close` say: this writer's entry number `seq` has this hash. `prune` says which entries were dropped, and how
the rest connects. The signature is over the exact text of the statement.
"""

import base64
import binascii
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, cast
from uuid import UUID

from proxy.audit.chain import Head
from proxy.audit.keys import Signer

CheckpointKind = Literal["head", "close", "prune"]
VERSION: Final = 1
_LINE_BEGINS: Final = '{"statement": "'


@dataclass(frozen=True, slots=True)
class Dropped:
    """Entries `first` … `last` of a writer are gone; `previous` is the hash before them, `hash` that of the last."""

    writer: str
    first: int
    last: int
    previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A statement as stored; `writer_id` and `head` are None for `prune`, `dropped` is empty for the others."""

    kind: CheckpointKind
    statement: str
    key_id: str
    signature: bytes
    at: datetime
    writer_id: UUID | None = None
    head: Head | None = None
    dropped: tuple[Dropped, ...] = ()

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.statement.encode()).hexdigest()


def state_head(  # noqa: PLR0917  every part of the statement
    kind: Literal["head", "close"],
    writer_id: UUID,
    instance: str,
    head: Head,
    counts: Mapping[str, int],
    previous: str | None,
    at: datetime,
) -> str:
    """Return the statement about a writer's last entry; `previous` is the digest of its statement before this one."""
    return _text(
        {
            "v": VERSION,
            "kind": kind,
            "at": _time(at),
            "writer": str(writer_id),
            "instance": instance,
            "seq": head.seq,
            "hash": head.hash.hex(),
            "counts": dict(counts),
            "previous": previous,
        }
    )


def state_prune(partitions: Sequence[str], dropped: Iterable[Dropped], at: datetime) -> str:
    """Return the statement about dropped partitions."""
    ranges = [asdict(each) for each in dropped]
    return _text({"v": VERSION, "kind": "prune", "at": _time(at), "partitions": list(partitions), "dropped": ranges})


def sign(statement: str, signer: Signer) -> Checkpoint:
    return read_checkpoint(statement, signer.key_id, signer.sign(statement))


def read_checkpoint(statement: str, key: str, signature: bytes) -> Checkpoint:
    """Understand a statement; raise ValueError. The signature is not checked here."""
    try:
        said = json.loads(statement)
        kind, at = said["kind"], datetime.fromisoformat(said["at"])
        if said["v"] != VERSION or kind not in ("head", "close", "prune"):
            raise ValueError("not a checkpoint of a known version")
        if kind == "prune":
            dropped = tuple(_dropped(each) for each in said["dropped"])
            return Checkpoint(kind, statement, key, signature, at, dropped=dropped)
        return Checkpoint(kind, statement, key, signature, at, UUID(said["writer"]), head_of(said))
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a checkpoint: {error!r}") from error


def head_of(said: Any) -> Head:
    """Return the entry that `seq` and `hash` name; raise ValueError, KeyError or TypeError where they name none."""
    return Head(_number(said["seq"]), _hash(said["hash"]))


def append_to_file(path: Path, checkpoint: Checkpoint) -> None:
    """Append one line, and return when it is on the disk. A line that a crash has torn is ended first."""
    line = json.dumps(
        {
            "statement": checkpoint.statement,
            "key": checkpoint.key_id,
            "signature": base64.b64encode(checkpoint.signature).decode(),
        }
    )
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o640)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        end = os.fstat(handle).st_size
        is_torn = end > 0 and os.pread(handle, 1, end - 1) != b"\n"
        whole = b"\n" * is_torn + line.encode() + b"\n"
        if os.write(handle, whole) < len(whole):
            raise OSError(errno.ENOSPC, "the line is torn: no space left", str(path))
        os.fsync(handle)
    finally:
        os.close(handle)


def read_file(path: Path) -> list[Checkpoint]:
    """Return the checkpoints of a file, without torn lines; raise ValueError with the number of a bad one."""
    found: list[Checkpoint] = []
    lines = path.read_text(encoding="utf-8").split("\n")
    for number, line in enumerate(lines if lines[-1] else lines[:-1], start=1):
        if _is_torn(line):
            continue
        try:
            said = cast("dict[str, Any]", json.loads(line))
            signature = base64.b64decode(said["signature"], validate=True)
            found.append(read_checkpoint(said["statement"], said["key"], signature))
        except (ValueError, KeyError, TypeError, binascii.Error) as error:
            raise ValueError(f"{path}:{number}: {error}") from error
    return found


def _is_torn(line: str) -> bool:
    """Whether a line is the beginning of one, and no more: what a crash or a full disk leaves."""
    if not line.startswith(_LINE_BEGINS[: len(line)]):
        return False
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def row_of(checkpoint: Checkpoint) -> tuple[object, ...]:
    """Return the values of a row of audit_checkpoints, as `record_checkpoint` takes them."""
    seq = checkpoint.head.seq if checkpoint.head else None
    return (
        *(checkpoint.kind, checkpoint.at, checkpoint.writer_id, seq),
        *(checkpoint.statement, checkpoint.key_id, checkpoint.signature),
    )


def _dropped(said: Mapping[str, Any]) -> Dropped:
    """Read one range of a prune; ValueError, KeyError or TypeError for what is none."""
    previous, last = _hash(said["previous"]), _hash(said["hash"])
    first, end = _number(said["first"]), _number(said["last"])
    if end < first:
        raise ValueError("a range ends before it begins")
    return Dropped(str(UUID(said["writer"])), first, end, previous.hex(), last.hex())


def _number(said: object) -> int:
    if isinstance(said, int) and not isinstance(said, bool) and 0 < said < 2**63:
        return said
    raise ValueError("not the number of an entry")


def _hash(said: str) -> bytes:
    made = bytes.fromhex(said)
    if len(made) != 32:
        raise ValueError("not a SHA-256")
    return made


def _text(statement: Mapping[str, object]) -> str:
    return json.dumps(statement, sort_keys=True, separators=(",", ":"))


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat()
