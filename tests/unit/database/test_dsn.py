"""Addresses of databases: what is refused, and that no password is ever shown."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.database.dsn import check_dsn, describe_dsn
from registry.database.errors import DatabaseUnavailable

SECRET = "Tr0ub4dor"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        (f"postgresql://proxy:{SECRET}@db.example:5433/postern", "proxy@db.example:5433/postern"),
        (f"postgres://proxy:{SECRET}@[::1]:5432/postern?sslmode=require", "proxy@[::1]:5432/postern"),
        (f"postgresql://proxy:{SECRET}@one:5432,two:5433/postern", "proxy@one:5432,two:5433/postern"),
        ("postgresql://postern_owner@/postern?host=%2Frun%2Fx&port=5432", "postern_owner@/run/x/postern"),
        (f"postgresql:///postern?host=db&user=me&password={SECRET}", "me@db/postern"),
        ("postgresql://", "(default user)@localhost/(default user)"),
    ],
)
def test_an_address_is_shown_without_its_password(dsn: str, shown: str):
    check_dsn(dsn)
    assert describe_dsn(dsn) == shown


@pytest.mark.parametrize(
    "dsn",
    [
        "",
        "postern",
        f"mysql://proxy:{SECRET}@db/postern",
        f"postgresql+asyncpg://proxy:{SECRET}@db/postern",
        f"postgresql://proxy:{SECRET}/1@db/postern",
        f"postgresql://proxy:12/{SECRET}@db/postern",
        f"postgresql://proxy:{SECRET}#1@db/postern",
        f"postgresql://proxy:{SECRET}?1@db/postern",
        f"postgresql://proxy:1@{SECRET}@db/postern",
        f"postgresql://proxy:1@2/{SECRET}@db/postern",
        f"postgresql://proxy:{SECRET}@db:port/postern",
        f"postgresql://proxy:{SECRET}@db:70000/postern",
        f"postgresql://proxy:{SECRET}@[::1/postern",
        f"postgresql://proxy:{SECRET}",
    ],
)
def test_an_address_that_would_be_misread_is_refused_without_quoting_it(dsn: str):
    with pytest.raises(
        DatabaseUnavailable, match=r"DATABASE_URL cannot be used: .* expected postgresql://USER"
    ) as caught:
        check_dsn(dsn)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_driver_suffix_is_named():
    with pytest.raises(DatabaseUnavailable, match=r"without \+asyncpg"):
        check_dsn("postgresql+asyncpg://u@h/d")


@given(st.text(min_size=12, max_size=30))
def test_no_quoted_password_is_ever_shown(password: str):
    dsn = f"postgresql://proxy:{quote(password, safe='')}@db.example:5432/postern"
    check_dsn(dsn)
    assert describe_dsn(dsn) == "proxy@db.example:5432/postern"


@given(st.text(alphabet="abc/?#@:[]%,=&1", min_size=8, max_size=16))
def test_a_raw_password_is_refused_or_not_shown(password: str):
    marked = f"{password}SECRET"
    dsn = f"postgresql://proxy:{marked}@db.example:5432/postern"
    assert "SECRET" not in shown(dsn)


def shown(dsn: str) -> str:
    """Return all that an operator would read about this address."""
    try:
        check_dsn(dsn)
    except DatabaseUnavailable as refused:
        return str(refused)
    return describe_dsn(dsn)
