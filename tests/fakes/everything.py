"""The full fixture: every tool, prompt and resource that the official conformance scenarios name, on both eras.

    python -m tests.fakes.everything [--port N]

stdio without --port. Written after the scenario descriptions of @modelcontextprotocol/conformance 0.2.0-alpha.12.
"""

import argparse

from mcp.server.mcpserver import MCPServer

from tests.fakes.event_store import MemoryEventStore
from tests.fakes.everything_content import (
    add_legacy_methods,
    add_prompts,
    add_resources,
    add_timed_tools,
    add_tools,
    schema_tool,
)
from tests.fakes.everything_dialogue import (
    add_input_required_prompt,
    add_input_required_tools,
    add_requests_to_the_client,
    add_stateful_tools,
    add_stateless_probes,
)
from tests.fakes.everything_tasks import Tasks
from tests.fakes.serving import run


def build_server() -> MCPServer:
    server = MCPServer("everything", version="1.0.0", tools=[schema_tool()], extensions=[Tasks()])
    for add in (
        add_tools,
        add_timed_tools,
        add_resources,
        add_prompts,
        add_legacy_methods,
        add_requests_to_the_client,
        add_input_required_tools,
        add_stateful_tools,
        add_input_required_prompt,
        add_stateless_probes,
    ):
        add(server)
    return server


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.everything")
    parser.add_argument("--port", type=int, default=None)
    options = parser.parse_args()
    run(build_server(), options.port, event_store=MemoryEventStore())


if __name__ == "__main__":
    main()
