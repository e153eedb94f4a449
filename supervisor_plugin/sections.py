"""What a launcher needs to know of one server, as the gate last accepted it: a private file per server.

A server that crashes while somebody edits the registry is started again under the registry that passed the gate.
"""

from pathlib import Path

from registry.models import Fleet, Model, OAuth, Server
from supervisor_plugin.paths import Paths, hold_exactly


class Section(Model):
    """One internal server without keys, tools and credentials, which are none of its process's business.

    `base` is the directory from which references start; `dev` allows literal secrets.
    """

    server: Server
    base: str
    dev: bool


def section_of(server: Server, fleet: Fleet, paths: Paths) -> Section:
    """Cut a server's section out of the fleet."""
    nothing: dict[str, object] = {
        "oauth": OAuth(),
        "tools": {},
        "prompts": {},
        "resources": {},
        "headers": (),
        "tables": (),
    }
    return Section(
        server=server.model_copy(update=nothing), base=str(paths.registry.parent), dev=fleet.fleet.mode == "dev"
    )


def write_sections(fleet: Fleet, paths: Paths) -> None:
    """Make the directory hold exactly the sections of the enabled internal servers, or raise OSError and leave it."""
    texts = {
        server.name: section_of(server, fleet, paths).model_dump_json()
        for server in fleet.enabled_servers()
        if server.type == "internal"
    }
    hold_exactly(paths.sections, ".json", texts)


def section_file(paths: Paths, server: str) -> Path:
    return paths.sections / f"{server}.json"


def read_section(paths: Paths, server: str) -> Section:
    """Read a server's section; raises OSError if the server is unknown, ValueError if the file is not ours."""
    return Section.model_validate_json(section_file(paths, server).read_text(encoding="utf-8"))
