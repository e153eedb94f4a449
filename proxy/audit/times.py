"""Times of the table that Python cannot hold: whoever may insert may write infinity, 4000 BC, or the year 12000."""

from datetime import datetime
from typing import Any, cast

from proxy.audit.canonical import microseconds, moment
from registry.database.driver import Connection


class Beyond(datetime):
    """The nearest time that can be told; to PostgreSQL it goes back as it came, so that pages go on behind it."""

    count: int


async def read_any_time(database: Connection) -> None:
    """Let a connection read every timestamptz."""
    codec = {"schema": "pg_catalog", "format": "tuple", "encoder": _encoded, "decoder": _decoded}
    await cast("Any", database).set_type_codec("timestamptz", **codec)


def _decoded(value: tuple[int]) -> datetime:
    (count,) = value
    told = moment(count)
    if microseconds(told) == count:
        return told
    made = Beyond.fromisoformat(told.isoformat())
    made.count = count
    return made


def _encoded(value: datetime) -> tuple[int]:
    return (value.count if isinstance(value, Beyond) else microseconds(value),)
