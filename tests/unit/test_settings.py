"""What an operator is told whose environment does not say what the proxy needs."""

from pathlib import Path

import pytest

from proxy.settings import Settings, SettingsError


def test_log_level_that_nobody_knows_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    environ = {"POSTERN_STATE_DIR": str(tmp_path), "DATABASE_URL": "postgresql://h/d"}
    with pytest.raises(SettingsError, match="POSTERN_LOG=verbose: write debug, info"):
        Settings.from_env({**environ, "POSTERN_LOG": "verbose"})
    assert Settings.from_env({**environ, "POSTERN_LOG": "Warning"}).log_level == "Warning"
    assert Settings.from_env({**environ, "POSTERN_LOG": ""}).log_level == "info"


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), (b"", "it is empty"), (b"\xff\xfe", "it is not UTF-8 text")]
)
def test_database_address_that_cannot_be_read_names_the_file(tmp_path: Path, content: bytes | None, why: str) -> None:
    file = tmp_path / "dsn"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=f"{file}: {why}"):
        Settings.from_env({"POSTERN_DSN_FILE": str(file)})
