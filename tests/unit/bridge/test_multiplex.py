from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.bridge.frames import Kind
from proxy.bridge.multiplex import SUBSCRIPTION_ID_KEY, Multiplexer, Related, Stray, Unrelated

IDS = st.integers() | st.text(max_size=5)


def request(request_id: int | str, method: str = "tools/call", **meta: object) -> dict[str, Any]:
    params = {"params": {"name": "t", "_meta": meta}} if meta else {}
    return {"jsonrpc": "2.0", "id": request_id, "method": method, **params}


def notification(method: str, **params: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params}


@given(st.lists(st.tuples(IDS, IDS | st.none()), max_size=12), st.randoms())
def test_every_answer_finds_its_own_caller_with_its_own_values(calls: list[tuple[Any, Any]], random: Any):
    multiplexer: Multiplexer[int] = Multiplexer(is_modern=True)
    sent: list[tuple[int, dict[str, Any]]] = []
    for sink, (request_id, token) in enumerate(calls):
        original = request(request_id, progressToken=token) if token is not None else request(request_id)
        before = repr(original)
        _, outgoing = multiplexer.admit(original, sink)
        assert repr(original) == before, "the original is left alone"
        sent.append((sink, outgoing))
    assert len({outgoing["id"] for _, outgoing in sent}) == len(calls)
    random.shuffle(sent)
    for sink, outgoing in sent:
        request_id, token = calls[sink]
        if token is not None:
            number = outgoing["params"]["_meta"]["progressToken"]
            routed = multiplexer.route(notification("notifications/progress", progressToken=number, progress=1))
            assert isinstance(routed, Related)
            assert (routed.ticket.sink, routed.message["params"]["progressToken"]) == (sink, token)
        routed = multiplexer.route({"jsonrpc": "2.0", "id": outgoing["id"], "result": {"n": sink}})
        assert isinstance(routed, Related)
        assert routed.is_last
        assert (routed.ticket.sink, routed.message["id"], routed.message["result"]) == (sink, request_id, {"n": sink})
    assert len(multiplexer) == 0


def test_a_late_answer_is_stray_and_its_number_never_comes_again():
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=True)
    ticket, outgoing = multiplexer.admit(request(1, progressToken=2), "a")
    multiplexer.retire(ticket.number)
    assert isinstance(multiplexer.route({"jsonrpc": "2.0", "id": outgoing["id"], "result": {}}), Stray)
    progress = notification("notifications/progress", progressToken=outgoing["id"])
    assert isinstance(multiplexer.route(progress), Stray)
    assert multiplexer.admit(request(1), "b")[0].number != ticket.number


@pytest.mark.parametrize("number", ["1", 1.0, True, None, 99, [1], {"id": 1}])
def test_an_answer_with_another_id_is_nobodys(number: object):
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=True)
    multiplexer.admit(request("a"), "a")
    assert isinstance(multiplexer.route({"jsonrpc": "2.0", "id": number, "result": {}}), Stray)
    assert len(multiplexer) == 1


def test_progress_without_a_token_of_the_client_is_stray():
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=True)
    ticket, _ = multiplexer.admit(request(1), "a")
    assert isinstance(multiplexer.route(notification("notifications/progress", progressToken=ticket.number)), Stray)


def test_subscription_ids_are_the_clients_in_notifications_and_in_the_result():
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=True)
    ticket, _ = multiplexer.admit(request("sub", "subscriptions/listen"), "s")
    meta = {SUBSCRIPTION_ID_KEY: ticket.number, "other": 1}
    changed = multiplexer.route(notification("notifications/tools/list_changed", _meta=meta))
    assert isinstance(changed, Related)
    assert changed.message["params"]["_meta"] == {SUBSCRIPTION_ID_KEY: "sub", "other": 1}
    ended = multiplexer.route({"jsonrpc": "2.0", "id": ticket.number, "result": {"_meta": meta}})
    assert isinstance(ended, Related)
    assert ended.message["result"]["_meta"][SUBSCRIPTION_ID_KEY] == "sub"
    assert isinstance(multiplexer.route(notification("notifications/tools/list_changed", _meta=meta)), Stray)


def test_a_torn_down_subscription_ends_with_the_clients_id_in_the_modern_era_only():
    cancelled = notification("notifications/cancelled", requestId=1)
    modern: Multiplexer[str] = Multiplexer(is_modern=True)
    modern.admit(request("sub", "subscriptions/listen"), "s")
    routed = modern.route(cancelled)
    assert isinstance(routed, Related)
    assert (routed.is_last, routed.message["params"]["requestId"], len(modern)) == (True, "sub", 0)
    assert isinstance(modern.route(cancelled), Stray)
    legacy: Multiplexer[str] = Multiplexer(is_modern=False)
    legacy.admit(request("call"), "c")
    assert legacy.route(cancelled) == Unrelated(cancelled, Kind.NOTIFICATION), "there it means a question of the server"


def test_the_only_call_is_known_only_while_it_is_the_only_one():
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=True)
    assert multiplexer.only_call() is None
    multiplexer.admit(request(0, "subscriptions/listen"), "listen")
    first, _ = multiplexer.admit(request(1), "a")
    assert multiplexer.only_call() is first, "a listen stream is no call"
    second, _ = multiplexer.admit(request(2), "b")
    assert multiplexer.only_call() is None
    multiplexer.retire(first.number)
    assert multiplexer.only_call() is second


def test_client_ids_are_told_apart_by_type():
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=False)
    number, _ = multiplexer.admit(request(1), "number")
    text, _ = multiplexer.admit(request("1"), "text")
    assert multiplexer.of_client_id(1) is number
    assert multiplexer.of_client_id("1") is text
    assert multiplexer.of_client_id(2) is None


@pytest.mark.parametrize("params", [None, {}, {"_meta": None}, {"_meta": []}, {"_meta": {"progressToken": 1.5}}])
def test_odd_parameters_pass_unchanged(params: object):
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=True)
    message = {"jsonrpc": "2.0", "id": "x", "method": "m"} | ({} if params is None else {"params": params})
    ticket, outgoing = multiplexer.admit(message, "s")
    assert outgoing == message | {"id": ticket.number}


@given(st.dictionaries(st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error"]), st.none() | IDS))
def test_no_message_of_a_server_breaks_the_routing(message: dict[str, Any]):
    multiplexer: Multiplexer[str] = Multiplexer(is_modern=True)
    multiplexer.admit(request(1, progressToken="t"), "s")
    assert isinstance(multiplexer.route(message), Related | Unrelated | Stray)
