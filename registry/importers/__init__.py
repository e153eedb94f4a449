"""Taking over what teams already have (SPEC R9): the configuration files of MCP clients, and `server.json`."""

from registry.importers.clients import read_clients
from registry.importers.found import FoundServer, ImportFileError
from registry.importers.jsonc import read_document
from registry.importers.server_json import is_server_json, read_server_json

__all__ = ["FoundServer", "ImportFileError", "read_import"]


def read_import(content: bytes) -> tuple[FoundServer, ...]:
    """Return the servers that a file describes; raises `ImportFileError`. Nothing is run, looked up or expanded."""
    try:
        document = read_document(content)
        return read_server_json(document) if is_server_json(document) else read_clients(document)
    except RecursionError:
        raise ImportFileError("the file is nested too deeply") from None
