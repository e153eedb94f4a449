"""Addresses by role."""

from urllib.parse import parse_qs, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from supervisor_plugin.up.database import Database, with_role


def test_role_joins_the_options_that_are_there() -> None:
    dsn = with_role("postgresql://u:p%2Fw@db.example:5432/app?sslmode=require", "postern_proxy")
    parts = urlsplit(dsn)
    assert parts.netloc == "u:p%2Fw@db.example:5432"
    assert parse_qs(parts.query) == {"sslmode": ["require"], "role": ["postern_proxy"]}


def test_role_that_was_chosen_before_is_replaced() -> None:
    assert parse_qs(urlsplit(with_role("postgresql:///app?role=admin", "postern_proxy")).query)["role"] == [
        "postern_proxy"
    ]


@given(st.text(st.characters(codec="ascii", exclude_characters="\r\n\t"), max_size=20))
def test_host_path_survives(folder: str) -> None:
    """The embedded server's socket directory travels as an option."""
    from urllib.parse import quote

    dsn = f"postgresql://u@/app?host={quote('/' + folder, safe='')}"
    assert parse_qs(urlsplit(with_role(dsn, "r")).query)["host"] == ["/" + folder]


def test_addresses_are_no_part_of_the_repr() -> None:
    database = Database("postgresql://u:secret@h/d", {"proxy": "postgresql://u:secret@h/d"}, "u@h/d")
    assert "secret" not in repr(database)
