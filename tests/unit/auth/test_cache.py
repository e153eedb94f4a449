"""What is remembered of verified tokens."""

from proxy.auth.cache import VerifiedTokens
from proxy.auth.identity import Authenticated

ALICE = Authenticated("bearer", "i", "alice", None, frozenset(), 100.0)


def test_the_token_itself_is_not_kept():
    known = VerifiedTokens()
    known.put(b"Bearer secret", ALICE, 100.0)
    assert known.get(b"Bearer secret", 99.0) is ALICE
    assert known.get(b"Bearer secreT", 99.0) is None
    assert b"secret" not in b"".join(known._known)


def test_it_is_bounded_and_drops_the_oldest():
    known = VerifiedTokens(capacity=3)
    for n in range(5):
        known.put(b"%d" % n, ALICE, 100.0)
    assert len(known) == 3
    assert known.get(b"1", 0.0) is None
    assert known.get(b"4", 0.0) is ALICE


def test_a_token_that_is_put_again_takes_no_second_place():
    known = VerifiedTokens(capacity=2)
    for name in (b"a", b"b", b"a"):
        known.put(name, ALICE, 100.0)
    assert len(known) == 2
    known.clear()
    assert known.get(b"a", 0.0) is None


def test_what_is_dropped_or_replaced_proves_nothing_to_whoever_still_holds_it():
    """Keys that change later would not reach it."""
    known = VerifiedTokens(capacity=2)
    held = []
    for name in (b"a", b"a", b"b", b"c"):
        known.put(name, ALICE, 100.0)
        held.append(known.find(name, 0.0))
    assert [proof.until for proof in held if proof is not None] == [0.0, 0.0, 100.0, 100.0]
