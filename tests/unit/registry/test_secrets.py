import copy
import os
import pickle
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.models import Variable
from registry.secret_store import STORE_FILE, STORE_KEY, EncryptedStore, new_key, store_key
from registry.secrets import (
    MAX_SECRET_BYTES,
    SHARED_FILES,
    BadReferenceError,
    ExposedSecretError,
    LiteralSecretError,
    Secret,
    SecretError,
    SecretReader,
    SecretStoreError,
    UnresolvedSecretError,
    resolve,
    resolve_variable,
    split_reference,
)

NOW = datetime(2026, 11, 23, tzinfo=UTC)


def secret_file(directory: Path, content: bytes, mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.fixture
def environ() -> dict[str, str]:
    return {STORE_KEY: new_key(), "NOTES_KEY": "hunter2", "EMPTY": ""}


# ---- the type


def test_a_secret_shows_itself_only_when_asked():
    secret = Secret(b"hunter2")
    for shown in (repr(secret), str(secret), f"{secret}", f"{secret:>20}", f"{[secret]}"):
        assert "hunter2" not in shown
        assert "**********" in shown
    assert secret.reveal() == b"hunter2"
    assert secret.text() == "hunter2"


@pytest.mark.parametrize("copying", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_secret_is_not_copied_out(copying):
    with pytest.raises(TypeError, match="not pickled"):
        copying(Secret(b"hunter2"))


def test_secrets_compare_by_value_and_do_not_hash():
    assert Secret(b"a") == Secret(b"a")
    assert Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    with pytest.raises(TypeError):
        hash(Secret(b"a"))


def test_a_secret_that_is_not_text_does_not_appear_in_the_error():
    with pytest.raises(UnresolvedSecretError) as raised:
        Secret(b"hunter2\xff").text()
    assert "hunter2" not in repr(raised.value) + str(raised.value.__context__)


# ---- references


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("env:A_1", ("env", "A_1")),
        ("file:a b", ("file", "a b")),
        ("store:a.b-c", ("store", "a.b-c")),
        ("hunter2", None),
        ("https://x", None),
        ("", None),
        ("ENV:X", None),
    ],
)
def test_references_are_told_from_literals(text: str, parts: tuple[str, str] | None):
    assert split_reference(text) == parts


@pytest.mark.parametrize(
    "text",
    ["env:", "env:1A", "env:A-B", "env: A", "file:", "file:a\0b", "store:", "store:../x", "store:a b", "env:A\n"],
)
def test_a_malformed_reference_is_no_literal(text: str):
    with pytest.raises(BadReferenceError):
        resolve(text, base=Path(), environ={}, allow_literal=True)


def test_an_environment_variable_is_found(tmp_path, environ):
    assert resolve("env:NOTES_KEY", base=tmp_path, environ=environ).reveal() == b"hunter2"


@pytest.mark.parametrize(("name", "state"), [("MISSING", "is not set"), ("EMPTY", "is empty")])
def test_an_absent_environment_variable_says_which(name: str, state: str, tmp_path, environ):
    with pytest.raises(UnresolvedSecretError, match=f"{name} {state}") as raised:
        resolve(f"env:{name}", base=tmp_path, environ=environ)
    assert name in raised.value.hint


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n"])
def test_a_file_is_read_without_its_last_line_ending(ending: bytes, tmp_path):
    secret_file(tmp_path, b"hunter2" + ending)
    assert resolve("file:secret", base=tmp_path, environ={}).reveal() == b"hunter2"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601])
def test_a_file_that_others_can_use_is_refused_unless_told_otherwise(mode: int, tmp_path):
    secret_file(tmp_path, b"hunter2", mode)
    with pytest.raises(ExposedSecretError, match=f"{mode:04o}"):
        resolve("file:secret", base=tmp_path, environ={})
    assert resolve("file:secret", base=tmp_path, environ={SHARED_FILES: "1"}).reveal() == b"hunter2"


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * (MAX_SECRET_BYTES + 1)])
def test_an_empty_or_huge_file_is_no_secret(content: bytes, tmp_path):
    secret_file(tmp_path, content)
    with pytest.raises(UnresolvedSecretError):
        resolve("file:secret", base=tmp_path, environ={})


def test_a_missing_file_a_directory_and_a_pipe_are_no_secrets(tmp_path):
    (tmp_path / "dir").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("none", "dir", "pipe"):
        with pytest.raises(UnresolvedSecretError):
            resolve(f"file:{name}", base=tmp_path, environ={})


def test_a_literal_is_taken_only_where_it_is_allowed(tmp_path):
    assert resolve("hunter2", base=tmp_path, environ={}, allow_literal=True).reveal() == b"hunter2"
    with pytest.raises(LiteralSecretError) as raised:
        resolve("hunter2", base=tmp_path, environ={})
    assert "hunter2" not in str(raised.value)


@given(st.text(max_size=30))
def test_any_reference_gives_a_secret_or_a_typed_error(text: str):
    found = None
    try:
        resolve(text, base=Path("/nonexistent"), environ={}, allow_literal=True)
    except SecretError as error:
        found = error
    assert found is None or (found.hint and found.code.startswith("SECRET-"))


def test_the_reader_reveals_text(tmp_path, environ):
    reader = SecretReader(tmp_path, environ)
    assert reader.reveal("env:NOTES_KEY") == "hunter2"
    assert reader.secret("literal").reveal() == b"literal"
    with pytest.raises(UnresolvedSecretError):
        reader.reveal("env:MISSING")


# ---- variables


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        (Variable(value="UTC"), b"UTC"),
        (Variable(value=""), b""),
        (Variable(value="env:NOTES_KEY", secret=True), b"hunter2"),
        (Variable(), b"from-outside"),
        (Variable(value="env:MISSING", required=False), None),
    ],
)
def test_a_variable_has_its_value_or_its_reference_or_its_name(
    variable: Variable, value: bytes | None, tmp_path, environ
):
    found = resolve_variable("V", variable, base=tmp_path, environ={**environ, "V": "from-outside"})
    assert (found.reveal() if found else None) == value


@pytest.mark.parametrize("variable", [Variable(), Variable(value="env:MISSING"), Variable(value="file:none")])
def test_a_required_variable_without_a_value_is_an_error(variable: Variable, tmp_path):
    with pytest.raises(UnresolvedSecretError):
        resolve_variable("V", variable, base=tmp_path, environ={})


def test_a_secret_variable_is_no_literal_outside_development(tmp_path):
    with pytest.raises(LiteralSecretError):
        resolve_variable("V", Variable(value="hunter2", secret=True), base=tmp_path, environ={})


def test_an_exposed_file_is_an_error_even_for_an_optional_variable(tmp_path):
    secret_file(tmp_path, b"x", 0o644)
    with pytest.raises(ExposedSecretError):
        resolve_variable("V", Variable(value="file:secret", required=False), base=tmp_path, environ={})


# ---- the store


def test_the_store_keeps_secrets_sealed(tmp_path, environ):
    store = EncryptedStore.beside(tmp_path, environ)
    store.put("notes", Secret(b"hunter2"), now=NOW)
    assert resolve("store:notes", base=tmp_path, environ=environ).reveal() == b"hunter2"
    assert store.names() == {"notes": NOW.isoformat()}
    assert b"hunter2" not in store.path.read_bytes()
    assert store.path.stat().st_mode & 0o777 == 0o600
    assert store.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_secret_that_was_never_set_names_the_command(tmp_path, environ):
    with pytest.raises(UnresolvedSecretError) as raised:
        resolve("store:notes", base=tmp_path, environ=environ)
    assert raised.value.hint == "postern secret set notes"


def test_removing_and_replacing(tmp_path, environ):
    store = EncryptedStore.beside(tmp_path, environ)
    store.put("a", Secret(b"1"), now=NOW)
    store.put("a", Secret(b"2"), now=NOW)
    assert store.get("a").reveal() == b"2"
    assert store.remove("a")
    assert not store.remove("a")
    with pytest.raises(UnresolvedSecretError):
        store.get("a")


def test_entries_cannot_change_places(tmp_path, environ):
    store = EncryptedStore.beside(tmp_path, environ)
    store.put("low", Secret(b"1"), now=NOW)
    store.put("high", Secret(b"2"), now=NOW)
    store.path.write_text(
        store.path.read_text().replace('"low"', '"x"').replace('"high"', '"low"').replace('"x"', '"high"')
    )
    with pytest.raises(SecretStoreError, match="does not open"):
        store.get("low")


def test_another_key_opens_nothing(tmp_path, environ):
    EncryptedStore.beside(tmp_path, environ).put("a", Secret(b"1"), now=NOW)
    with pytest.raises(SecretStoreError):
        EncryptedStore.beside(tmp_path, {STORE_KEY: new_key()}).get("a")


@pytest.mark.parametrize("key", ["", "short", "!" * 43, "A" * 42, "A" * 200])
def test_a_store_without_a_proper_key_says_how_to_get_one(key: str, tmp_path):
    with pytest.raises(SecretStoreError) as raised:
        store_key({STORE_KEY: key})
    assert "postern secret key" in raised.value.hint
    assert key not in raised.value.message or not key


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b'{"version": 2, "secrets": {}}',
        b'{"version": 1, "secrets": [1]}',
        b'{"version": 1, "secrets": {"a": 1}}',
        b"[" * 100_000,
    ],
)
def test_a_damaged_store_is_a_typed_error(content: bytes, tmp_path, environ):
    store = EncryptedStore.beside(tmp_path, environ)
    store.put("a", Secret(b"1"), now=NOW)
    store.path.write_bytes(content)
    for act in (lambda: store.get("a"), store.names, lambda: store.put("b", Secret(b"2"), now=NOW)):
        with pytest.raises(SecretStoreError):
            act()
    assert store.path.read_bytes() == content


def test_a_store_that_others_can_read_is_refused(tmp_path, environ):
    store = EncryptedStore.beside(tmp_path, environ)
    store.put("a", Secret(b"1"), now=NOW)
    store.path.chmod(0o644)
    with pytest.raises(ExposedSecretError):
        store.get("a")


def test_the_store_may_lie_elsewhere(tmp_path, environ):
    elsewhere = {**environ, STORE_FILE: str(tmp_path / "deep/er/s.json")}
    EncryptedStore.beside(tmp_path / "x", elsewhere).put("a", Secret(b"1"), now=NOW)
    assert (tmp_path / "deep/er/s.json").exists()


def test_two_writers_do_not_lose_each_others_secrets(tmp_path, environ):
    from concurrent.futures import ThreadPoolExecutor

    def put(number: int) -> None:
        EncryptedStore.beside(tmp_path, environ).put(f"s{number}", Secret(b"%d" % number), now=NOW)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(put, range(24)))
    store = EncryptedStore.beside(tmp_path, environ)
    assert len(store.names()) == 24
    assert store.get("s7").reveal() == b"7"


def test_a_store_that_is_kept_open_sees_what_others_write(tmp_path, environ):
    reader = SecretReader(tmp_path, environ)
    writer = EncryptedStore.beside(tmp_path, environ)
    writer.put("a", Secret(b"old"), now=NOW)
    assert reader.reveal("store:a") == "old"
    writer.put("a", Secret(b"new"), now=NOW)
    assert reader.reveal("store:a") == "new"
    writer.path.chmod(0o640)
    with pytest.raises(ExposedSecretError):
        reader.reveal("store:a")


def test_a_full_or_forbidden_place_is_a_typed_error(tmp_path, environ):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(SecretStoreError, match="cannot write"):
        EncryptedStore.beside(tmp_path, {**environ, STORE_FILE: str(blocked / "s.json")}).put(
            "a", Secret(b"1"), now=NOW
        )


KEYRING = """
class errors:
    class KeyringError(Exception): ...

def get_password(service, user):
    if {broken}:
        raise errors.KeyringError
    return {{("postern", "store-key"): {key!r}}}.get((service, user))
"""


@pytest.mark.parametrize("broken", [False, True])
def test_where_a_keyring_is_installed_the_key_may_lie_there(broken: bool, tmp_path, monkeypatch):
    key = new_key()
    (tmp_path / "keyring.py").write_text(KEYRING.format(key=key, broken=broken), encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "keyring", raising=False)
    try:
        if broken:
            with pytest.raises(SecretStoreError, match="has no key"):
                store_key({})
        else:
            assert store_key({}) == store_key({STORE_KEY: key})
    finally:
        sys.modules.pop("keyring", None)
