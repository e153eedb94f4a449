"""Times as people type them. Pure."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_AGO: Final = re.compile(r"(\d{1,6})([smhdw])")


def parse_when(text: str, now: datetime) -> datetime:
    """Read `15m`, `2h`, `7d` (ago), `today`, `yesterday`, or ISO 8601 (UTC without an offset); raise ValueError."""
    if _AGO.fullmatch(text.strip()):
        return before(now, parse_span(text))
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    match text.strip().lower():
        case "now":
            return now
        case "today":
            return midnight
        case "yesterday":
            return midnight - timedelta(days=1)
        case other:
            at = datetime.fromisoformat(other.upper())
            return at if at.tzinfo else at.replace(tzinfo=UTC)


def before(now: datetime, span: timedelta) -> datetime:
    """Return the time that is a span before `now`; raise ValueError where the calendar does not reach that far."""
    try:
        return now - span
    except OverflowError as error:
        raise ValueError("longer ago than there are years") from error


def parse_span(text: str) -> timedelta:
    """Read a span such as `90d`; raise ValueError."""
    found = _AGO.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"expected a number with s, m, h, d or w, such as 90d, got {text!r}")
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
