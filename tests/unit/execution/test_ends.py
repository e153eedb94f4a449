"""What a client is told of an end, and what only its row tells."""

import pytest

from proxy.execution.ends import end_of
from proxy.sessions.store import SessionStoreUnavailableError
from proxy.upstream import UpstreamUnreachable

SECRET = "connect call failed (10.1.2.3, 5432)"


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (UpstreamUnreachable(SECRET), "upstream.unreachable", "server notes cannot be reached"),
        (SessionStoreUnavailableError(SECRET), "session.store", "sessions cannot be read or kept now"),
    ],
)
def test_where_servers_and_databases_are_is_for_the_row(error: Exception, code: str, sentence: str) -> None:
    end = end_of(error, "notes")
    assert end.told is not None
    assert end.told.answer() == (code, sentence)
    assert (end.code, end.told.status) == (code, 503)
    assert SECRET in end.reason
