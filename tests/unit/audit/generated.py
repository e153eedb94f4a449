"""Requests, intents and rows as hypothesis makes them up."""

from datetime import UTC

from hypothesis import strategies as st

from proxy.audit.record import Intent, Outcome, Payload, Request, Row, Scopes, Status, Subject

moments = st.datetimes(timezones=st.just(UTC))
texts = st.text(alphabet=st.characters(codec=None, exclude_categories=()), max_size=40)
words = st.none() | texts
counts = st.integers(0, 2**63 - 1) | st.integers(-(2**70), 2**70)
payloads = st.none() | st.builds(Payload, words, counts, st.binary(min_size=32, max_size=32))
scopes = st.builds(
    Scopes,
    st.lists(st.text(max_size=9)).map(tuple),
    st.just(()),
    st.lists(st.text(max_size=600), max_size=3).map(tuple),
)
requests = st.builds(
    Request,
    execution_id=st.uuids(),
    server=st.text(max_size=2000),
    started=moments,
    http_method=st.text(max_size=9),
    method=words,
    tool=words,
    subject=st.builds(Subject, st.text(max_size=9), words, words, words, words, words),
    audience=words,
    scopes=scopes,
    session=words,
    protocol_version=words,
    trace_id=words,
    remote=words,
    input=payloads,
)
outcomes = st.builds(
    Outcome,
    status=st.sampled_from(Status),
    decision=texts,
    reason=texts,
    http_status=st.integers(100, 599),
    completed=moments,
    duration_us=counts,
    upstream_us=st.none() | counts,
    output=payloads,
    contract=words,
    artifact=words,
    error=words,
    events=st.none() | counts,
    hooks=st.just(()) | st.just(({"hook": "mask"},)),
    repeats=st.integers(1, 2**70),
    last_seen=st.none() | moments,
)
records = st.builds(Intent, requests) | st.builds(Row, requests, outcomes)
