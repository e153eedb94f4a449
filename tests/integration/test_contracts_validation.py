"""Arguments and results are what was promised, or they do not pass (SPEC C2, C3)."""

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest

from registry.contracts.lockfile import lock_path
from tests.fakes.rug_pull import RugPull
from tests.integration.contracts_sidecar import Guarded, guarded, pin_schema

READ_DIGEST_PREFIX = "sha256:"
ARTIFACTS = {"table": {"artifact": "table"}, "delete_note": {"artifact": "text"}, "*": {}}


@pytest.fixture(scope="module")
def rug() -> Iterator[RugPull]:
    with RugPull() as server:
        yield server


@pytest.fixture(scope="module")
def strict(tmp_path_factory, module_database, rug) -> Iterator[Guarded]:
    root = tmp_path_factory.mktemp("strict")
    with guarded(root, module_database.dsn("postern_proxy"), rug, tools=ARTIFACTS) as sidecar:
        yield sidecar


@pytest.fixture(scope="module")
def warn(tmp_path_factory, module_database, rug) -> Iterator[Guarded]:
    contract = {"input": "warn", "output": "warn"}
    root = tmp_path_factory.mktemp("warn")
    with guarded(root, module_database.dsn("postern_proxy"), rug, contract=contract, tools=ARTIFACTS) as sidecar:
        yield sidecar


def last_row(sidecar: Guarded) -> dict:
    return sidecar.rows("method = 'tools/call'")[-1]


@pytest.mark.parametrize(
    ("arguments", "path"),
    [({}, "/"), ({"id": "one"}, "/id"), ({"id": 0}, "/id"), ({"id": 1, "path": "x"}, "/"), ({"id": 1.5}, "/id")],
)
def test_arguments_that_break_the_pinned_schema_do_not_reach_the_server(strict, rug, arguments, path) -> None:
    """The caller learns the place and never its own value back; the row has the code."""
    rug.become("honest")
    calls = rug.calls
    answer = strict.use("read_note", **arguments)
    assert answer.status == 400
    error = answer.json()["error"]
    assert (error["code"], error["data"]["code"], error["data"]["path"]) == (-32602, "contract.input", path)
    assert rug.calls == calls
    row = last_row(strict)
    assert (row["status"], row["decision"]) == ("denied", "contract.input")
    assert row["contract"].startswith(READ_DIGEST_PREFIX)


def test_arguments_that_fit_pass_and_the_row_names_the_contract(strict, rug) -> None:
    rug.become("honest")
    answer = strict.use("read_note", id=7)
    assert answer.json()["result"]["structuredContent"] == {"id": 7, "text": "buy milk"}
    row = last_row(strict)
    assert (row["status"], row["error"]) == ("success", None)
    assert row["contract"].startswith(READ_DIGEST_PREFIX)


def test_arguments_that_are_no_object_are_refused(strict, rug) -> None:
    calls = rug.calls
    answer = strict.ask("tools/call", name="read_note", arguments=[1])
    assert answer.json()["error"]["data"]["code"] in {"contract.input", "authz.params"}
    assert rug.calls == calls


def test_output_that_breaks_its_schema_is_a_tool_error_and_a_row(strict, rug) -> None:
    """What was withheld is known by its digest, and the caller gets nothing of it."""
    rug.become("lying")
    answer = strict.use("read_note", id=7)
    result = answer.json()["result"]
    assert result["isError"] is True
    assert result["resultType"] == "complete"
    assert "structuredContent" not in result
    text = result["content"][0]["text"]
    assert "/structuredContent/id" in text
    assert "seven" not in text
    row = last_row(strict)
    assert (row["status"], row["decision"]) == ("failed", "contract.output")
    assert "/structuredContent/id" in row["error"]
    assert "seven" not in (row["output"] or "")
    assert len(row["output_sha256"]) == 32
    assert row["output_sha256"] != hashlib.sha256(answer.body).digest()


def test_output_without_its_structured_content_is_withheld(strict, rug) -> None:
    rug.become("bare")
    result = strict.use("read_note", id=7).json()["result"]
    assert result["isError"] is True
    assert "is missing" in result["content"][0]["text"]


def test_artifact_is_checked_and_named_in_row_and_result(strict, rug) -> None:
    rug.become("honest")
    result = strict.use("table").json()["result"]
    assert result["_meta"]["postern/artifact"] == "table"
    assert result["structuredContent"]["rows"] == [[1, "one"], [2, "two"]]
    assert last_row(strict)["artifact"] == "table"


def test_artifact_that_is_none_is_withheld(strict, rug) -> None:
    result = strict.use("table", bad=True).json()["result"]
    assert result["isError"] is True
    assert "/rows/1: has 1 cells, there are 2 columns" in result["content"][0]["text"]
    row = last_row(strict)
    assert (row["decision"], row["artifact"]) == ("contract.output", "table")


def test_errors_of_a_tool_promise_nothing(strict, rug) -> None:
    """A tool that fails need not fit its schema."""
    answer = strict.use("become")
    assert answer.json().get("error") or answer.json()["result"]["isError"] is True


def test_warn_passes_both_and_tells(warn, rug) -> None:
    rug.become("lying")
    calls = rug.calls
    assert warn.use("delete_note", id="one").status == 200
    row = last_row(warn)
    assert (row["status"], row["error"]) == ("success", 'contract.input: /id: the value is not of type "integer"')
    result = warn.use("read_note", id=7).json()["result"]
    assert result["structuredContent"]["id"] == "seven"
    row = last_row(warn)
    assert row["status"] == "success"
    assert "contract.output: /structuredContent/id" in row["error"]
    result = warn.use("table", bad=True).json()["result"]
    assert "postern/artifact" not in result.get("_meta", {})
    assert rug.calls == calls + 3


def test_schema_in_the_registry_binds_a_server_that_declares_none(tmp_path, database, rug) -> None:
    schema = {"type": "object", "properties": {"columns": {"maxItems": 1}}}
    tools = {"table": {"output_schema": schema}, "*": {}}
    rug.become("honest")
    with guarded(tmp_path / "s", database.dsn("postern_proxy"), rug, tools=tools, lock=False) as sidecar:
        result = sidecar.use("table").json()["result"]
        assert "/structuredContent/columns" in result["content"][0]["text"]


def test_pinned_schema_that_cannot_be_used_passes_unchecked_where_that_is_wanted(tmp_path, database, rug) -> None:
    """A schema that points into the network is never fetched: `strict` stops at the gate, `warn` passes and tells."""
    rug.become("honest")
    remote = {"type": "object", "$ref": "http://127.0.0.1:9/x.json"}
    args: dict[str, Any] = {
        "contract": {"input": "warn"},
        "before": lambda sidecar: pin_schema(lock_path(sidecar.file), remote),
    }
    with guarded(tmp_path / "s", database.dsn("postern_proxy"), rug, **args) as sidecar:
        assert sidecar.use("read_note", id=1).status == 200
        assert "only references into the schema itself" in sidecar.rows("method = 'tools/call'")[-1]["error"]
        assert sidecar.use("delete_note", id=1).status == 200
        assert sidecar.rows("method = 'tools/call'")[-1]["error"] is None
