"""A signed trail to tamper with, and its verification."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from proxy.audit.chain import STORED_COLUMNS, genesis, link_hash
from proxy.audit.checkpoint import Checkpoint
from proxy.audit.keys import PublicKeys, Signer
from proxy.audit.limits import Limits
from proxy.audit.notary import Notary
from proxy.audit.record import Intent, Row
from proxy.audit.verify import Report, verify
from proxy.audit.writer import AuditWriter
from registry.database.pool import connection
from tests.fixtures_postgres import Database
from tests.unit.audit.reference import canonical
from tests.unit.audit.samples import call

SIGNER = Signer(Ed25519PrivateKey.generate())
TRUSTED: Any = PublicKeys([load_pem_public_key(SIGNER.public_pem)])  # type: ignore[list-item]
AGO = datetime.now(UTC) - timedelta(days=100)
PARTITIONS = "select audit_ensure_partitions(now() - interval '4 months', now(), 'month')"


async def write_calls(database: Database, count: int, file: Path | None = None) -> AuditWriter:
    """A writer records calls (two entries each), signs its end and closes."""
    notary = Notary(SIGNER, file, every_s=3600)
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="one", limits=Limits(), notary=notary)
    for _ in range(count):
        intent, row = call()
        await writer.write_intent(intent)
        await writer.write_row(row)
    await writer.aclose()
    return writer


async def check(database: Database, file: list[Checkpoint] | None = None, keys: PublicKeys = TRUSTED) -> Report:
    async with connection(database.dsn("postern_auditor")) as auditor:
        return await verify(auditor, keys, file or [])


async def tamper(database: Database, *statements: str) -> None:
    async with connection(database.dsn()) as owner:
        for statement in statements:
            assert await owner.execute(statement) not in ("UPDATE 0", "DELETE 0", "INSERT 0 0")


async def rehash(owner: Any, writer: AuditWriter) -> None:
    """Make a writer's chain anew over what its entries hold now, as whoever may write the tables can."""
    previous = genesis(writer.writer_id).hash
    for row in await owner.fetch(f"select {', '.join(STORED_COLUMNS)} from audit_entries order by seq"):
        made = link_hash(previous, canonical(dict(row.items())))
        await owner.execute(
            "update audit_entries set prev_hash = $1, row_hash = $2 where seq = $3", previous, made, row["seq"]
        )
        previous = made


async def execute(database: Database, *statements: str) -> None:
    """Run statements as the owner."""
    async with connection(database.dsn()) as owner:
        for statement in statements:
            await owner.execute(statement)


async def write(database: Database, *records: Intent | Row) -> None:
    """One unsigned writer records intents and rows."""
    writer = await AuditWriter.open(database.dsn("postern_proxy"), instance="trail")
    for record in records:
        await (writer.write_intent(record) if isinstance(record, Intent) else writer.write_row(record))
    await writer.aclose()
