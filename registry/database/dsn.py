"""Database addresses: checked, and shown to people without the password. Pure."""

from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from registry.database.errors import DatabaseUnavailable

SCHEMES: Final = ("postgresql", "postgres")
FORM: Final = "postgresql://USER:PASSWORD@HOST:PORT/DATABASE"


def check_dsn(dsn: str) -> None:
    """Raise DatabaseUnavailable for an address that PostgreSQL drivers would misread; its text holds no part of it."""
    try:
        parts = urlsplit(dsn.strip())
    except ValueError:
        raise malformed("it is no URL") from None
    if parts.scheme not in SCHEMES:
        raise malformed(f"it must begin with postgresql://{_scheme_hint(parts.scheme)}")
    # A raw / ? # or @ in the password ends its part early: the rest of the password would pass for host or database.
    if parts.fragment or "@" in parts.path + parts.query or parts.netloc.count("@") > 1:
        raise malformed("write / ? # and @ in the password as %2F %3F %23 and %40")
    if not all(_is_host(host) for host in _hosts(parts)):
        raise malformed("the port must be a number")


def describe_dsn(dsn: str) -> str:
    """Return who connects where, such as `postern_proxy@db.example:5432/postern`; never the password."""
    parts = urlsplit(dsn.strip())
    options = parse_qs(parts.query)
    user = unquote(parts.netloc.rpartition("@")[0].partition(":")[0]) or _last(options, "user") or "(default user)"
    hosts = [unquote(host) for host in _hosts(parts) if host] or options.get("host", [])[-1:] or ["localhost"]
    database = unquote(parts.path.lstrip("/")) or _last(options, "database") or _last(options, "dbname")
    return f"{user}@{','.join(hosts)}/{database or user}"


def malformed(why: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(f"DATABASE_URL cannot be used: {why}; expected {FORM}")


def _hosts(parts: SplitResult) -> list[str]:
    return parts.netloc.rpartition("@")[2].split(",")


def _is_host(host: str) -> bool:
    """Say whether `host`, `host:port`, `[v6]` or `[v6]:port` is what it looks like."""
    port = host.rpartition("]")[2] if host.startswith("[") else host.partition(":")[2] and ":" + host.partition(":")[2]
    return not port or (port.startswith(":") and port[1:].isdigit() and 0 < int(port[1:]) < 65536)


def _scheme_hint(scheme: str) -> str:
    driver = scheme.partition("+")[0]
    return f", without +{scheme.partition('+')[2]}" if driver in SCHEMES and "+" in scheme else ""


def _last(options: dict[str, list[str]], name: str) -> str:
    return options.get(name, [""])[-1]
