"""What is written is what supervisord reads: checked with supervisord's own parser."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from supervisor.options import ServerOptions

from registry.models import Fleet
from supervisor_plugin.config import (
    PROXY,
    ConfigError,
    command,
    environment,
    escape,
    program_file,
    section,
    supervisord_argv,
    write_supervisord_config,
)
from supervisor_plugin.paths import PathError, Paths, instance_id, prepare, read_instance
from supervisor_plugin.sections import read_section

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@pytest.fixture
def paths(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    base = tmp_path_factory.mktemp("c")
    return Paths(state=base / "s", registry=base / "postern.yaml", dsn_file=base / "dsn")


def fleet(**servers: dict[str, Any]) -> Fleet:
    whole = {name: {"name": name, "port": 5000, "command": ["true"], **server} for name, server in servers.items()}
    return Fleet.model_validate({"version": 1, "servers": whole})


def read(paths: Paths) -> ServerOptions:
    """Read the configuration as supervisord does, without becoming it."""
    options = ServerOptions()
    options.realize(["-c", str(paths.conf)])
    return options


def programs(options: ServerOptions) -> dict[str, Any]:
    return {group.name: group.process_configs[0] for group in options.process_group_configs}


def test_supervisord_reads_the_fleet_as_declared(paths: Paths):
    made = fleet(
        alpha={"lifecycle": {"stop_grace_s": 2.5}},
        beta={"type": "external", "command": [], "port": None, "endpoint": "https://beta.example/mcp"},
        gamma={"enabled": False},
    )
    write_supervisord_config(made, paths)
    found = programs(read(paths))
    assert found.keys() == {"postern-fleet", "alpha", PROXY}
    alpha, proxy, listener = found["alpha"], found[PROXY], found["postern-fleet"]
    for program in (alpha, proxy):
        assert (program.autostart, program.autorestart, program.startsecs, program.startretries) == (False, False, 0, 0)
        assert program.stopasgroup
        assert program.killasgroup
        assert program.redirect_stderr
    assert alpha.stopwaitsecs == 3
    assert alpha.command.endswith("-P -m supervisor_plugin.launch alpha")
    assert alpha.environment["POSTERN_SERVER"] == "alpha"
    assert "POSTERN_DSN_FILE" not in alpha.environment
    assert "POSTERN_SERVER" not in listener.environment
    assert listener.environment["POSTERN_DSN_FILE"] == str(paths.dsn_file)
    assert listener.environment["POSTERN_FLEET"] == alpha.environment["POSTERN_FLEET"]
    assert proxy.priority > alpha.priority > listener.priority


def test_the_state_is_private_and_the_instance_stays_the_same(paths: Paths):
    write_supervisord_config(fleet(alpha={}), paths)
    first = paths.instance.read_text()
    write_supervisord_config(fleet(alpha={}), paths)
    assert paths.instance.read_text() == first
    assert paths.state.stat().st_mode & 0o777 == 0o700
    for path in paths.state.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_files_of_servers_that_are_gone_go_too(paths: Paths):
    write_supervisord_config(fleet(alpha={}, beta={}), paths)
    write_supervisord_config(fleet(beta={}), paths, proxy=None)
    assert [path.name for path in paths.programs.iterdir()] == ["beta.conf"]
    assert [path.name for path in paths.sections.iterdir()] == ["beta.json"]


def test_a_section_holds_no_key_and_no_credential_of_the_server(paths: Paths):
    secret = "the-signing-key-of-thirty-two-bytes!"
    oauth = {"keys": [{"kid": "k", "secret": secret}]}
    headers = [{"name": "authorization", "value": "upstream-credential"}]
    write_supervisord_config(fleet(alpha={"oauth": oauth, "headers": headers, "env": {"A": {"value": "b"}}}), paths)
    for path in paths.state.rglob("*"):
        if path.is_file():
            assert secret not in path.read_text()
            assert "upstream-credential" not in path.read_text()
    assert read_section(paths, "alpha").server.env["A"].value == "b"


@pytest.mark.parametrize("name", ["postern-proxy", "postern-fleet"])
def test_names_of_our_own_programs_are_refused(paths: Paths, name: str):
    with pytest.raises(ConfigError, match="taken by a program of Postern"):
        write_supervisord_config(fleet(**{name: {}}), paths)


def test_a_state_directory_that_is_too_deep_for_a_socket_is_refused(tmp_path: Path):
    with pytest.raises(PathError, match="POSTERN_STATE_DIR"):
        prepare(Paths(state=tmp_path / ("x" * 90), registry=tmp_path))


@pytest.mark.parametrize("value", ["a\nb", "a ;b", "a #b", ";a", "#a", " a", "a ", "a\rb", "a\0b", "a\t;b", "\x1b"])
def test_text_that_the_format_would_cut_or_join_is_refused(value: str):
    with pytest.raises(ConfigError):
        escape(value)


@pytest.mark.parametrize("value", ['a"b', "'a", "a'", "a\\"])
def test_environment_values_that_cannot_be_quoted_are_refused(value: str):
    with pytest.raises(ConfigError):
        environment({"NAME": value})


def parsed(paths: Paths, argv: tuple[str, ...], variables: dict[str, str], stop_s: float = 1.0) -> Any:
    prepare(paths)
    text = program_file("it", argv, paths, variables, stop_s=stop_s, priority=1)
    paths.conf.write_text(section("supervisord", {"nodaemon": "true"}) + text, encoding="utf-8")
    return programs(read(paths))["it"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(TEXT, min_size=1, max_size=4), st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), TEXT))
def test_whatever_is_not_refused_arrives_unchanged(paths: Paths, argv: list[str], variables: dict[str, str]):
    try:
        command(tuple(argv))
        environment(variables)
    except ConfigError:
        return
    found = parsed(paths, tuple(argv), variables)
    assert shlex_split(found.command) == argv
    assert {name: found.environment[name] for name in variables} == variables | {
        name: "it" for name in variables if name == "POSTERN_SERVER"
    }


def shlex_split(text: str) -> list[str]:
    """Split as supervisord's `get_execv_args` does."""
    import shlex

    return shlex.split(text)


def test_percent_signs_and_placeholders_stay_what_they_are(paths: Paths):
    found = parsed(paths, ("run", "100%", "%(here)s", "a b"), {"RATE": "50%, of all"})
    assert shlex_split(found.command) == ["run", "100%", "%(here)s", "a b"]
    assert found.environment["RATE"] == "50%, of all"


def test_supervisord_runs_in_the_foreground(paths: Paths):
    assert supervisord_argv(paths)[1:] == ("-P", "-m", "supervisor.supervisord", "-n", "-c", str(paths.conf))


def test_a_copied_state_directory_is_another_fleet_and_a_moved_one_is_the_same(paths: Paths):
    """With one id for both, each of them would take the processes of the other for its own leftovers."""
    write_supervisord_config(fleet(alpha={}), paths)
    first = read_instance(paths)
    assert first is not None
    moved = replace(paths, state=paths.state.with_name("moved"))
    paths.state.rename(moved.state)
    assert read_instance(moved) == instance_id(moved) == first
    copy = replace(paths, state=paths.state.with_name("copy"))
    shutil.copytree(moved.state, copy.state)
    assert read_instance(copy) is None
    assert instance_id(copy) == read_instance(copy) != first
    assert read_instance(moved) == first


def test_an_id_of_an_earlier_version_is_kept(paths: Paths):
    prepare(paths)
    paths.instance.write_text("an-id\n")
    assert read_instance(paths) == instance_id(paths) == "an-id"
    assert paths.instance_of.exists()


def test_a_state_directory_with_a_percent_sign_is_where_supervisord_logs(tmp_path: Path):
    """supervisord expands the address of a program's log twice, and any other value once."""
    paths = Paths(state=tmp_path / "100%d %é", registry=tmp_path / "postern.yaml")
    write_supervisord_config(fleet(alpha={}), paths)
    options = read(paths)
    found = programs(options)
    assert found["alpha"].stdout_logfile == str(paths.logs / "alpha.log")
    assert found["postern-fleet"].stderr_logfile == str(paths.logs / "postern-fleet.err")
    assert options.logfile == str(paths.logs / "supervisord.log")
    assert found["alpha"].environment["POSTERN_STATE_DIR"] == str(paths.state)
