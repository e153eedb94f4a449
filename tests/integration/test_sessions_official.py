"""The official Python and TypeScript clients notice nothing of restarts, replicas and polling (issue 6, done when)."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Iterator
from pathlib import Path
from typing import Any, Self

import anyio
import httpx2
import mcp_types as types
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPDeprecationWarning

from tests.conformance import suite
from tests.fixtures_postgres import Database
from tests.ports import free_port
from tests.sidecar import Sidecar, listens, wait_for
from tests.streaming import Scene, document

REFERENCE_PORT = free_port()
SCRIPT = Path(__file__).parents[1] / "clients" / "conversation.mjs"

pytestmark = pytest.mark.filterwarnings(f"ignore::{MCPDeprecationWarning.__module__}.{MCPDeprecationWarning.__name__}")


@pytest.fixture(scope="module")
def scene(tmp_path_factory, module_database: Database) -> Iterator[Scene]:
    port = free_port()
    section: dict[str, Any] = {"type": "external", "endpoint": f"http://127.0.0.1:{port}/mcp", "tools": {"*": {}}}
    reference = {**section, "endpoint": f"http://127.0.0.1:{REFERENCE_PORT}/mcp"}
    servers = {"everything": section, "reference": reference}
    scene = Scene(tmp_path_factory.mktemp("official"), module_database, servers)
    scene.upstream_port = port
    try:
        start_upstream(scene)
        scene.sidecar.start_proxy()
        yield scene
    finally:
        scene.sidecar.stop()


def start_upstream(scene: Scene) -> None:
    port = scene.upstream_port
    scene.sidecar.start("upstream", [sys.executable, "-m", "tests.fakes.everything", "--port", str(port)])
    wait_for(lambda: listens(port), "the server listens")


def restart(scene: Scene, what: str) -> None:
    match what:
        case "proxy stopped":
            scene.sidecar.kill("proxy", signal.SIGTERM)
            scene.sidecar.start_proxy()
        case "proxy killed":
            scene.sidecar.kill("proxy", signal.SIGKILL)
            scene.sidecar.start_proxy()
        case _:
            scene.sidecar.kill("upstream", signal.SIGKILL)
            start_upstream(scene)


WHAT = ["proxy stopped", "proxy killed", "server killed"]


@contextlib.asynccontextmanager
async def connected(sidecar: Sidecar) -> AsyncGenerator[Client]:
    async def sample(context: Any, params: Any) -> types.CreateMessageResult:
        content = types.TextContent(type="text", text="sampled")
        return types.CreateMessageResult(role="assistant", model="none", content=content)

    async def elicit(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={"username": "ada", "email": "a@b.c"})

    headers = {"authorization": f"Bearer {sidecar.token('everything')}"}
    async with httpx2.AsyncClient(headers=headers, trust_env=False, timeout=30) as http:
        transport = streamable_http_client(f"{sidecar.url}/everything/mcp", http_client=http)
        async with Client(transport, mode="legacy", sampling_callback=sample, elicitation_callback=elicit) as client:
            yield client


async def text_of(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result
    return "".join(item.text for item in result.content if isinstance(item, types.TextContent))


@pytest.mark.anyio
@pytest.mark.parametrize("what", WHAT)
async def test_the_python_client_goes_on_after_a_restart(scene, what) -> None:
    async with connected(scene.sidecar) as client:
        assert "simple" in await text_of(client, "test_simple_text")
        await anyio.to_thread.run_sync(restart, scene, what)
        assert "simple" in await text_of(client, "test_simple_text")
        assert "sampled" in await text_of(client, "test_sampling", prompt="?")
        assert "ada" in await text_of(client, "test_elicitation", message="?")


@pytest.mark.anyio
async def test_the_python_client_gets_an_answer_by_polling(scene) -> None:
    """The server closes the stream in the middle; the client comes back with the event id and gets its answer."""
    async with connected(scene.sidecar) as client:
        assert await text_of(client, "test_reconnection") == "Reconnection test completed"
    rows = scene.rows("tool = 'test_reconnection'")
    assert [(row["status"], row["decision"]) for row in rows[-2:]] == [
        ("interrupted", "stream.moved"),
        ("success", "stream.late_answer"),
    ]


def _polls(scene: Scene) -> int:
    """How many calls have been told to come back for their answer."""
    return len(scene.rows("tool = 'test_reconnection' and decision = 'stream.moved'"))


def _node() -> str:
    return str(suite.node_home() / "bin" / "node")


class TypeScript:
    """The official TypeScript client as a process."""

    def __init__(self, sidecar: Sidecar, sdk: Path) -> None:
        argv = [_node(), str(SCRIPT), str(sdk), f"{sidecar.url}/everything/mcp", sidecar.token("everything")]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._process:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(15)
            finally:
                self._process.kill()

    def read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def call(self, tool: str, **arguments: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"tool": tool, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        while True:
            said = self.read()
            if "notification" not in said:
                return said


@pytest.fixture
def typescript(scene, official_packages: Path) -> Iterator[TypeScript]:
    with TypeScript(scene.sidecar, official_packages / "sdk") as client:
        assert client.read()["connected"]
        yield client


@pytest.mark.parametrize("what", WHAT)
def test_the_typescript_client_goes_on_after_a_restart(scene, typescript, what) -> None:
    assert "simple" in typescript.call("test_simple_text")["text"]
    restart(scene, what)
    assert "simple" in typescript.call("test_simple_text")["text"]
    assert "sampled" in typescript.call("test_sampling", prompt="?")["text"]
    assert "ada" in typescript.call("test_elicitation", message="?")["text"]


def test_the_typescript_client_gets_an_answer_by_polling(typescript) -> None:
    assert typescript.call("test_reconnection")["text"] == "Reconnection test completed"


def test_the_typescript_client_gets_its_answer_from_the_next_proxy(scene, typescript) -> None:
    """Killed before the client has fetched its answer; this client is patient enough to see the next proxy."""
    said: list[dict[str, Any]] = []
    caller = threading.Thread(target=lambda: said.append(typescript.call("test_reconnection")))
    before = _polls(scene)
    caller.start()
    wait_for(lambda: _polls(scene) > before, "the stream is closed before the answer")
    restart(scene, "proxy killed")
    caller.join(timeout=60)
    assert not caller.is_alive(), "the client waits no longer"
    assert said[0].get("text") == "Reconnection test completed", said


@pytest.mark.usefixtures("official_packages")
def test_a_task_of_the_reference_server_is_its_callers_alone(scene) -> None:
    """The server of the protocol's authors makes tasks of the handshake era."""
    scene.sidecar.start("reference", [_node(), str(suite.REFERENCE_SERVER), "streamableHttp"], PORT=str(REFERENCE_PORT))
    wait_for(lambda: listens(REFERENCE_PORT), "the reference server listens")
    ada, eve = scene.client("reference"), scene.client("reference", sub="eve")
    params = {"name": "simulate-research-query", "arguments": {"topic": "bees"}, "task": {"ttl": 60_000}}
    task = document(ada.ask("tools/call", params))["result"]["task"]
    named = {"taskId": task["taskId"]}
    assert document(ada.ask("tasks/get", named))["result"]["taskId"] == task["taskId"]
    assert [each["taskId"] for each in document(ada.ask("tasks/list"))["result"]["tasks"]] == [task["taskId"]]
    assert document(eve.ask("tasks/get", named))["error"]["message"] == "Unknown task"
    assert document(eve.ask("tasks/list"))["result"]["tasks"] == []
    result = document(ada.ask("tasks/result", named))["result"]
    assert "bees" in result["content"][0]["text"]
    assert result["_meta"]["io.modelcontextprotocol/related-task"] == named
