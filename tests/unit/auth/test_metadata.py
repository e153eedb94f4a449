"""What a client learns about a server before it has a token."""

import json

import pytest

from proxy.auth.metadata import document, issuer_of, metadata_response, path_of, url_of
from tests.unit.auth.making import ISSUER, URL, fleet, with_notes


def test_the_document_names_the_url_that_clients_use():
    found = fleet()
    assert document(found, found.servers["notes"]) == {
        "resource": f"{URL}/notes/mcp",
        "authorization_servers": [ISSUER],
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["notes:use"],
        "resource_name": "Notes",
    }


def test_the_well_known_part_stands_before_the_path():
    found = fleet(proxy={"public_url": "https://gw.example/mcp-gateway/"})
    notes = found.servers["notes"]
    assert document(found, notes)["resource"] == "https://gw.example/mcp-gateway/notes/mcp"
    assert path_of(found, notes) == "/.well-known/oauth-protected-resource/mcp-gateway/notes/mcp"
    assert url_of(found, notes) == "https://gw.example" + path_of(found, notes)


def test_behind_a_tls_proxy_the_public_name_is_told_and_not_the_listening_address():
    found = fleet(proxy={"public_url": "https://gw.example", "host": "127.0.0.1", "port": 8080})
    assert "127.0.0.1" not in json.dumps(document(found, found.servers["notes"]))


def test_offline_access_is_never_offered():
    found = with_notes(scopes=["offline_access", "notes:use"])
    assert document(found, found.servers["notes"])["scopes_supported"] == ["notes:use"]


def test_the_issuer_is_declared_or_the_only_authorization_server_or_ourselves():
    def issuer(**changes: object) -> str:
        found = with_notes(**changes)
        return issuer_of(found, found.servers["notes"])

    assert issuer() == ISSUER
    assert issuer(issuer=None, authorization_servers=["https://other.example"]) == "https://other.example"
    assert issuer(issuer=None, authorization_servers=["https://a.example", "https://b.example"]) == URL
    assert issuer(issuer=None, authorization_servers=[]) == URL


def test_it_is_public_and_cacheable():
    found = metadata_response(fleet(), "notes")
    assert found.status_code == 200
    assert found.headers["access-control-allow-origin"] == "*"
    assert "max-age" in found.headers["cache-control"]
    assert json.loads(bytes(found.body))["resource"] == f"{URL}/notes/mcp"


@pytest.mark.parametrize("name", ["", "nobody", "NOTES", "notes/"])
def test_a_server_that_is_not_there_has_none(name: str):
    assert metadata_response(fleet(), name).status_code == 404


def test_a_server_without_oauth_or_one_that_is_switched_off_has_none():
    assert metadata_response(with_notes(required=False, keys=[]), "notes").status_code == 404
    base = fleet()
    off = base.model_copy(update={"servers": {"notes": base.servers["notes"].model_copy(update={"enabled": False})}})
    assert metadata_response(off, "notes").status_code == 404
