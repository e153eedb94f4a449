"""`postern proxy --server NAME`: the section of one server, or a sentence (SPEC U2)."""

import pytest

from proxy.reloading import RegistryFindingsError, StartError, load_fleet
from tests.unit.registry.making import ENVIRON, OAUTH_A, A, registry_file

TEXT = f"version: 1\nservers:\n  a: {{{A}}}\n  off: {{enabled: false}}\n"


@pytest.fixture(autouse=True)
def _keys(monkeypatch) -> None:
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)


def test_a_sidecar_has_the_section_of_its_server_only(tmp_path):
    path = registry_file(tmp_path, TEXT)
    assert list(load_fleet(path, None).servers) == ["a", "off"]
    assert list(load_fleet(path, "a").servers) == ["a"]


@pytest.mark.parametrize(("name", "said"), [("none", "no server 'none'; it has a"), ("off", "'off' that is enabled;")])
def test_a_sidecar_of_nothing_does_not_start(tmp_path, name: str, said: str):
    with pytest.raises(StartError, match=said):
        load_fleet(registry_file(tmp_path, TEXT), name)


def test_a_sidecar_starts_behind_the_same_gate(tmp_path):
    with pytest.raises(RegistryFindingsError, match="OAUTH-KEYS-MISSING"):
        load_fleet(registry_file(tmp_path, TEXT.replace(OAUTH_A, "oauth: {scopes: [a:use]}")), "a")
