from datetime import datetime, timedelta
from pathlib import Path

import pytest

from registry.key_rotation import Rotation, RotationError, plan_rotation, write_text
from registry.loader import load
from registry.models import Key
from tests.unit.registry.making import GOOD, NOW, gate, registry_file

NEW = Key(kid="new", secret="env:KEY_B")
END = "2026-11-24T12:00:00Z"


def rotated(directory: Path, keys: str, hours: float = 24, newline: str = "\n") -> Rotation:
    text = (
        "version: 1  # our fleet\nservers:\n  notes:\n    display_name: Notes\n    description: d\n    command: [sh]\n"
        f"    port: 5001\n    oauth:\n      scopes: [n]\n{keys}      # after the keys\n      leeway_s: 5\n"
    )
    path = registry_file(directory, text)
    found = load(path)
    assert found.fleet is not None, found.problems
    return plan_rotation(
        found.layout, found.fleet.servers["notes"], NEW, now=NOW, overlap=timedelta(hours=hours), newline=newline
    )


def test_a_block_list_gets_a_new_first_key_and_the_old_one_an_end(tmp_path):
    rotation = rotated(tmp_path, "      keys:\n        - kid: old  # of last year\n          secret: env:KEY_A\n")
    assert (
        "      keys:\n"
        '        - kid: "new"\n          secret: "env:KEY_B"\n'
        f'        - not_after: "{END}"\n          kid: old  # of last year\n          secret: env:KEY_A\n'
        "      # after the keys\n" in rotation.text
    )
    assert rotation.text.startswith("version: 1  # our fleet\n")
    assert rotation.ends == END


def test_a_flow_list_stays_on_its_line(tmp_path):
    rotation = rotated(tmp_path, "      keys: [{kid: old, secret: env:KEY_A}]  # one\n")
    assert (
        f'keys: [{{kid: "new", secret: "env:KEY_B"}}, {{kid: old, secret: env:KEY_A, not_after: "{END}"}}]  # one\n'
        in rotation.text
    )


@pytest.mark.parametrize(
    "keys",
    [
        "      keys:\n      - kid: old\n        secret: env:KEY_A\n",
        "      keys:\n        - {kid: old, secret: env:KEY_A}\n        - {kid: older, secret: env:KEY_C, not_after: '2026-12-24T00:00:00Z'}\n",
        "      keys: [\n        {kid: old, secret: env:KEY_A},\n      ]\n",
        "      keys:\n        -\n          secret: 'env:KEY_A'\n          kid: \"old\"\n          not_after: 2027-01-01T00:00:00+01:00\n",
        "      'keys':\n        - kid: old\n          secret: env:KEY_A\n\n",
    ],
)
def test_the_edited_file_passes_the_gate_with_one_key_more(keys: str, tmp_path):
    rotation = rotated(tmp_path, keys)
    result = gate(tmp_path, rotation.text)
    assert result.fleet is not None, rotation.text
    first, *old = result.fleet.servers["notes"].oauth.keys
    assert first == NEW
    assert old
    assert all(
        key.not_after is not None and datetime.fromisoformat(key.not_after) <= NOW + timedelta(hours=24) for key in old
    )


def test_a_key_that_ends_sooner_keeps_its_end(tmp_path):
    rotation = rotated(
        tmp_path, "      keys:\n        - {kid: old, secret: env:KEY_A, not_after: '2026-11-23T13:00:00Z'}\n"
    )
    assert "'2026-11-23T13:00:00Z'" in rotation.text
    assert END not in rotation.text


def test_line_endings_stay(tmp_path):
    rotation = rotated(tmp_path, "      keys: [{kid: old, secret: env:KEY_A}]\n", newline="\r\n")
    assert rotation.text.count("\r\n") == rotation.text.count("\n")


def test_a_server_without_keys_has_nothing_to_rotate(tmp_path):
    with pytest.raises(RotationError, match=r"has no `oauth\.keys:`"):
        rotated(tmp_path, "      required: false\n")


def test_a_server_of_an_include_is_edited_in_its_own_file(tmp_path):
    registry_file(
        tmp_path,
        f"servers:\n  notes: {{{GOOD}, port: 5001, oauth: {{scopes: [n], keys: [{{kid: old, secret: env:KEY_A}}]}}}}\n",
        "servers/notes.yaml",
    )
    found = load(registry_file(tmp_path, "version: 1\ninclude: [servers/*.yaml]\n"))
    assert found.fleet is not None
    rotation = plan_rotation(found.layout, found.fleet.servers["notes"], NEW, now=NOW, overlap=timedelta(hours=1))
    assert rotation.file == tmp_path / "servers/notes.yaml"


def test_writing_keeps_the_mode_and_follows_links(tmp_path):
    real = registry_file(tmp_path, "old", "data/real.yaml")
    real.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(real)
    write_text(link, "new\r\n")
    assert real.read_bytes() == b"new\r\n"
    assert real.stat().st_mode & 0o777 == 0o640
    assert link.is_symlink()
    assert [path.name for path in real.parent.iterdir()] == ["real.yaml"]


def test_writing_where_it_is_forbidden_leaves_the_file(tmp_path):
    with pytest.raises(OSError):
        write_text(tmp_path / "none.yaml", "x")
    assert list(tmp_path.iterdir()) == []
