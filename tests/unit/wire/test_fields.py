"""Header lines and what is remembered of them."""

from proxy.wire.fields import MOST_FACTS, Fields, fact_of


def test_a_fact_is_found_out_once():
    lines, asked = Fields.of([(b"a", b"1")]), list[object]()
    for _ in range(3):
        assert fact_of(lines, "key", lambda found: asked.append(found) or len(found)) == 1
    assert asked == [lines]


def test_facts_of_one_head_are_bounded_whatever_they_are_asked_by():
    """A server that loses its session with every call gives each of them another key."""
    lines = Fields.of([(b"a", b"1")])
    for key in range(5 * MOST_FACTS):
        assert fact_of(lines, key, len) == 1
        assert len(lines.facts) <= MOST_FACTS
