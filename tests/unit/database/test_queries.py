"""Named statements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.database import queries
from registry.database.errors import UnknownQueryError

NAMES = st.from_regex(r"[a-z][a-z_]{0,12}", fullmatch=True)
STATEMENTS = st.from_regex(r"select [a-z0-9 =$]{1,30}[a-z]", fullmatch=True)


@given(st.dictionaries(NAMES, STATEMENTS, min_size=1))
def test_what_is_written_under_names_is_read_back(statements: dict[str, str]):
    text = "-- a comment on top\n\n" + "\n".join(f"-- name: {name}\n{sql};\n" for name, sql in statements.items())
    assert queries.parse_queries(text, "x.sql") == {name: f"{sql};" for name, sql in statements.items()}


def test_comments_inside_a_statement_stay():
    assert queries.parse_queries("-- name: a\n-- why\nselect 1", "x.sql") == {"a": "-- why\nselect 1"}


@pytest.mark.parametrize(
    "text",
    [
        "select 1",
        "-- name: a\nselect 1\n-- name: a\nselect 2",
        "-- name: a\n-- only a comment\n",
        "-- name: a-b\nselect 1",
    ],
)
def test_unnamed_repeated_empty_and_badly_named_statements_are_refused(text: str):
    with pytest.raises(UnknownQueryError, match=r"x\.sql"):
        queries.parse_queries(text, "x.sql")


def test_a_missing_name_says_which_there_are():
    loaded = queries.load("registry.database", "migration_log.sql")
    with pytest.raises(UnknownQueryError, match="no statement named nothing; it has applied, "):
        loaded["nothing"]
