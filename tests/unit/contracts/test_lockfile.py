"""The lock file: reads well, reads back, and is not edited by hand (SPEC C1)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry import source
from registry.contracts.catalogue import Catalogue
from registry.contracts.definitions import instructions_digest
from registry.contracts.drift import compare
from registry.contracts.locked import Lock, ServerLock
from registry.contracts.lockfile import LockError, lock_path, read_lock, render_lock, write_lock

TOOL = {
    "name": "add",
    "description": "Add a note.\n\nArgs:\n    text: what it says",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string", "default": "no"}}},
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def lock_of(*tools: dict[str, Any], instructions: str | None = None) -> Lock:
    listed = {tool["name"]: tool for tool in tools}
    return Lock({"notes": ServerLock.of_catalogue(Catalogue({"tools": listed}, instructions, "notes 1"))})


def test_lock_stands_beside_the_registry(tmp_path) -> None:
    assert lock_path(tmp_path / "postern.yaml") == tmp_path / "postern.lock.yaml"


def test_missing_file_pins_nothing(tmp_path) -> None:
    assert read_lock(tmp_path / "postern.lock.yaml") == Lock()


def test_file_reads_well() -> None:
    """Block style, texts of several lines as they are, what looks like another type in quotes."""
    text = render_lock(lock_of(TOOL, instructions="Be\nkind"))
    assert (
        "          description: |-\n            Add a note.\n\n            Args:\n                text: what it says\n"
        in text
    )
    assert "default: 'no'" in text
    assert text.startswith("# ")
    assert "sha256:" in text


def test_written_lock_is_read_back(tmp_path) -> None:
    path = tmp_path / "postern.lock.yaml"
    lock = lock_of(TOOL, instructions="Be\nkind\n  indented")
    assert write_lock(path, lock) is True
    assert write_lock(path, lock) is False
    assert read_lock(path) == lock


@given(value=JSON, text=st.text(max_size=30))
@settings(max_examples=100, deadline=None)
def test_whatever_a_server_says_is_read_back(tmp_path_factory, value, text) -> None:
    """Or it cannot be pinned at all, and that is said."""
    path = tmp_path_factory.mktemp("lock") / "postern.lock.yaml"
    lock = lock_of({"name": "t", "description": text, "inputSchema": value}, instructions=text or None)
    try:
        write_lock(path, lock)
    except LockError:
        return
    live = Catalogue({"tools": {"t": lock.servers["notes"].of("tools")["t"].definition}}, text or None)
    assert compare(read_lock(path).servers["notes"], live) == ()


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("Add a note.", "Add any note.", "does not fit its digest"),
        ("name: add", "name: sub", "does not fit its digest"),
        ("digest: sha256:", "digest: md5:", "does not fit its digest"),
        ("version: 1", "version: 2", "must be 1"),
        ("text: Be kind", "text: Be cruel", "does not fit its digest"),
        ("servers:", "servers: 7 #", "nothing starts"),
        ("    tools:\n", "    tools: []\n    x:\n", "must be a mapping"),
    ],
)
def test_edit_by_hand_is_found_and_named(tmp_path, was, becomes, said) -> None:
    path = tmp_path / "postern.lock.yaml"
    text = render_lock(lock_of(TOOL, instructions="Be kind"))
    assert was in text
    path.write_text(text.replace(was, becomes, 1), encoding="utf-8")
    with pytest.raises(LockError) as refused:
        read_lock(path)
    assert said in str(refused.value)
    assert "postern.lock.yaml" in str(refused.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"[1", b"- 1", b"a: &x 1\nb: *x"])
def test_broken_file_is_refused(tmp_path, content) -> None:
    path = tmp_path / "postern.lock.yaml"
    path.write_bytes(content)
    with pytest.raises(LockError):
        read_lock(path)


def test_definition_that_yaml_cannot_hold_stands_as_json(tmp_path) -> None:
    path = tmp_path / "postern.lock.yaml"
    deep: Any = "x"
    for _ in range(80):
        deep = {"a": deep}
    strange = {"name": "t", "inputSchema": {"": 1, "<<": 2, "\x00": "\x1b", "big": 10**40, "deep": deep}}
    write_lock(path, lock_of(strange))
    assert "json: " in path.read_text(encoding="utf-8")
    assert read_lock(path) == lock_of(strange)


def test_lock_may_be_larger_than_a_registry_file(tmp_path) -> None:
    """It cannot be split, and has every definition of a fleet in full."""
    path = tmp_path / "postern.lock.yaml"
    text = "x" * (source.MAX_BYTES + 1)
    pinned = f"    instructions:\n      digest: {instructions_digest(text)}\n      text: {text}\n"
    path.write_text(f"version: 1\nservers:\n  notes:\n{pinned}", encoding="utf-8")
    assert read_lock(path).servers["notes"].instructions == text


def test_lock_that_could_not_be_read_again_is_not_written(tmp_path) -> None:
    path = tmp_path / "postern.lock.yaml"
    write_lock(path, lock_of(TOOL))
    before = path.read_bytes()
    with pytest.raises(LockError, match=r"the new postern\.lock\.yaml:1:1: YAML-TOO-LARGE"):
        write_lock(path, lock_of(TOOL, {**TOOL, "name": "other"}), max_bytes=len(before))
    assert path.read_bytes() == before


def test_definition_without_canonical_form_cannot_be_pinned() -> None:
    with pytest.raises(LockError, match="notes: tool"):
        render_lock(lock_of({"name": "t", "description": "\ud800"}))
