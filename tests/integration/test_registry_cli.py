"""The command as people run it: a process, its exit code, and what it prints."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from registry.check_cli import state_directory
from tests.unit.registry.making import GOOD, OAUTH_A, OAUTH_B, A, registry_file

STORE_KEY = "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE"
FIXTURES = Path(__file__).parent.parent / "unit/registry/fixtures"
GOOD_FILE = f"version: 1\nservers:\n  notes: {{{A}, tools: {{read: {{scopes: [a:read]}}}}}}\n"


def postern(*arguments: str, cwd: Path, stdin: str = "", **environ: str) -> "subprocess.CompletedProcess[str]":
    own = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "KEY_A": "a" * 32,
        "KEY_B": "b" * 32,
    }
    return subprocess.run(
        [sys.executable, "-m", "registry.cli", *arguments],
        cwd=cwd, env={**own, **environ}, input=stdin, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_a_good_file_exits_0_and_says_so(tmp_path):
    registry_file(tmp_path, GOOD_FILE)
    done = postern("check", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "postern.yaml: 1 server, nothing to mend\n", "")


def test_a_limit_that_nothing_enforces_is_noted(tmp_path):
    registry_file(tmp_path, GOOD_FILE.replace("tools:", "limits: {rate_per_principal: 5}, tools:"))
    done = postern("check", cwd=tmp_path)
    assert done.returncode == 0
    assert "note: servers.notes.limits.rate_per_principal is not enforced yet" in done.stderr


def test_no_locale_keeps_a_name_from_being_printed(tmp_path):
    registry_file(tmp_path, GOOD_FILE.replace("tools:", 'x: "\u2603", tools:'))
    argv = [sys.executable, "-m", "registry.cli", "check"]
    own = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run(argv, cwd=tmp_path, env=own, capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"")
    assert "SCHEMA-UNKNOWN-KEY" in done.stdout.decode()
    assert "\u2603" in done.stdout.decode()


def test_findings_exit_1_and_show_the_line(tmp_path):
    registry_file(tmp_path, GOOD_FILE.replace("5001", "80"))
    done = postern("check", cwd=tmp_path)
    assert done.returncode == 1
    assert "postern.yaml:3:" in done.stdout
    assert "PORT-PRIVILEGED" in done.stdout
    assert "^" in done.stdout


@pytest.mark.parametrize(
    "arguments", [("check", "--format", "xml"), ("check", "--nonsense"), ("frobnicate",), ("registry", "show")]
)
def test_usage_exits_2(arguments: tuple[str, ...], tmp_path):
    assert postern(*arguments, cwd=tmp_path).returncode == 2


def test_a_missing_file_is_a_finding(tmp_path):
    done = postern("check", "none.yaml", cwd=tmp_path)
    assert done.returncode == 1
    assert "FILE-UNREADABLE" in done.stdout


def test_the_file_is_the_argument_or_the_variable_or_the_default(tmp_path):
    registry_file(tmp_path, GOOD_FILE, "a.yaml")
    registry_file(tmp_path, GOOD_FILE, "b.yaml")
    registry_file(tmp_path, GOOD_FILE)
    assert postern("check", "a.yaml", cwd=tmp_path, POSTERN_REGISTRY="b.yaml").stdout.startswith("a.yaml:")
    assert postern("check", cwd=tmp_path, POSTERN_REGISTRY="b.yaml").stdout.startswith("b.yaml:")
    assert postern("check", cwd=tmp_path).stdout.startswith("postern.yaml:")


def test_json_and_sarif_are_for_machines(tmp_path):
    registry_file(tmp_path, GOOD_FILE.replace("5001", "80"))
    as_json = postern("check", "--format", "json", cwd=tmp_path)
    as_sarif = postern("check", "--format", "sarif", cwd=tmp_path)
    assert (as_json.returncode, as_sarif.returncode) == (1, 1)
    assert json.loads(as_json.stdout)["problems"][0]["code"] == "PORT-PRIVILEGED"
    assert json.loads(as_sarif.stdout)["runs"][0]["results"][0]["ruleId"] == "PORT-PRIVILEGED"
    registry_file(tmp_path, GOOD_FILE)
    assert json.loads(postern("check", "--format", "json", cwd=tmp_path).stdout) == {"ok": True, "problems": []}


def test_offline_needs_no_secret_and_no_program(tmp_path):
    registry_file(tmp_path, GOOD_FILE.replace("env:KEY_A", "env:NOT_HERE").replace("[sh]", "[no-such-program]"))
    assert postern("check", cwd=tmp_path).returncode == 1
    assert postern("check", "--offline", cwd=tmp_path).returncode == 0


def test_help_lists_every_command_without_importing_one(tmp_path):
    script = "import sys\nfrom registry.cli import main\ntry:\n    main(['--help'])\nfinally:\n    print(sorted(m for m in sys.modules if m.partition('.')[0] in {'registry', 'proxy', 'supervisor_plugin', 'pydantic'}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "check" in done.stdout
    assert done.stdout.strip().endswith("['registry', 'registry.cli']")


def test_a_misspelt_command_is_told_which_one_is_near(tmp_path):
    done = postern("chek", cwd=tmp_path)
    assert (done.returncode, "Did you mean 'check'?" in done.stderr) == (2, True)
    assert "Did you mean" not in postern("frobnicate", cwd=tmp_path).stderr


def test_check_takes_its_file_as_the_others_do_but_not_twice(tmp_path):
    registry_file(tmp_path, GOOD_FILE, "a.yaml")
    assert postern("check", "-f", "a.yaml", cwd=tmp_path).stdout == "a.yaml: 1 server, nothing to mend\n"
    assert postern("check", "a.yaml", "-f", "a.yaml", cwd=tmp_path).returncode == 2


def test_a_full_disk_behind_the_output_is_said_and_is_no_finding(tmp_path):
    registry_file(tmp_path, GOOD_FILE)
    argv = [sys.executable, "-m", "registry.cli", "registry", "list"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            argv, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), "KEY_A": "a" * 32},
        )  # fmt: skip
    assert done.stderr == "postern: the output cannot be written: No space left on device\n"
    assert done.returncode == 3


def test_state_lies_beside_the_registry_or_around_it(tmp_path):
    """The demo's registry lies in the state directory itself."""
    assert state_directory(tmp_path / "postern.yaml", {}) == tmp_path / ".postern"
    assert state_directory(tmp_path / ".postern" / "postern.yaml", {}) == tmp_path / ".postern"
    assert state_directory(tmp_path / "postern.yaml", {"POSTERN_STATE_DIR": "/srv/state"}) == Path("/srv/state")


def test_a_command_whose_module_is_absent_exits_3_and_disturbs_no_other(tmp_path):
    script = (
        "import registry.cli as cli\n"
        "cli.COMMANDS = {**cli.COMMANDS, 'ghost': cli.Entry('proxy.no_such_module:command', 'x')}\n"
        "cli.main(['ghost', '--any', 'thing'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr == "postern ghost: not available here: proxy.no_such_module is not part of this installation\n"


def test_registry_list_and_show(tmp_path):
    registry_file(tmp_path, GOOD_FILE)
    table = postern("registry", "list", cwd=tmp_path)
    assert table.returncode == 0
    assert table.stdout.splitlines()[1].split()[:3] == ["notes", "internal", ":5001"]
    listed = json.loads(postern("registry", "list", "--json", cwd=tmp_path).stdout)
    assert [server["name"] for server in listed["servers"]] == ["notes"]
    shown = json.loads(postern("registry", "show", "notes", "--json", cwd=tmp_path).stdout)
    assert shown["tools"] == {"read": {"scopes": ["a:read"]}}
    assert "a" * 32 not in table.stdout + json.dumps(listed) + json.dumps(shown)
    assert "notes" in postern("registry", "show", "notes", cwd=tmp_path).stdout


def test_registry_show_of_an_unknown_server_proposes_one(tmp_path):
    registry_file(tmp_path, GOOD_FILE)
    done = postern("registry", "show", "note", cwd=tmp_path)
    assert done.returncode == 1
    assert "did you mean `notes`?" in done.stderr


def test_registry_list_of_a_bad_file_shows_the_findings(tmp_path):
    registry_file(tmp_path, GOOD_FILE.replace("5001", "80"))
    done = postern("registry", "list", cwd=tmp_path)
    assert done.returncode == 1
    assert "PORT-PRIVILEGED" in done.stderr
    assert done.stdout == ""


def test_schema_is_json(tmp_path):
    assert json.loads(postern("schema", cwd=tmp_path).stdout)["definitions"]["Server"]


def test_a_secret_is_set_from_standard_input_and_never_shown(tmp_path):
    registry_file(tmp_path, GOOD_FILE.replace("env:KEY_A", "store:notes"))
    key = postern("secret", "key", cwd=tmp_path).stdout.strip()
    done = postern("secret", "set", "notes", cwd=tmp_path, stdin="n" * 40 + "\n", POSTERN_STORE_KEY=key)
    assert done.returncode == 0, done.stderr
    listed = postern("secret", "list", cwd=tmp_path, POSTERN_STORE_KEY=key)
    assert "notes" in listed.stdout
    assert "nnnn" not in done.stdout + done.stderr + listed.stdout
    assert postern("check", cwd=tmp_path, POSTERN_STORE_KEY=key).returncode == 0
    assert postern("check", cwd=tmp_path).returncode == 1
    assert postern("secret", "remove", "notes", cwd=tmp_path, POSTERN_STORE_KEY=key).returncode == 0
    assert postern("secret", "remove", "notes", cwd=tmp_path, POSTERN_STORE_KEY=key).returncode == 1


def test_a_rotation_that_cannot_be_written_leaves_no_key_behind(tmp_path):
    """The file's name is so long that no other can be put beside it: writing fails after the key was made."""
    path = registry_file(tmp_path, GOOD_FILE, "r" * 250 + ".yaml")
    done = postern("secret", "rotate", "notes", "-f", path.name, cwd=tmp_path, POSTERN_STORE_KEY=STORE_KEY)
    assert done.returncode == 1
    assert "File name too long" in done.stderr
    assert path.read_text() == GOOD_FILE
    assert postern("secret", "list", cwd=tmp_path, POSTERN_STORE_KEY=STORE_KEY).stdout.split() == ["NAME", "SET"]


def test_an_empty_secret_is_not_set(tmp_path):
    done = postern("secret", "set", "notes", cwd=tmp_path, stdin="\n", POSTERN_STORE_KEY=STORE_KEY)
    assert done.returncode == 1
    assert "empty" in done.stderr
    assert not (tmp_path / ".postern").exists()


def test_the_store_without_a_key_says_what_to_do(tmp_path):
    done = postern("secret", "set", "x", cwd=tmp_path, stdin="y")
    assert done.returncode == 1
    assert "postern secret key" in done.stderr


def test_rotate_is_one_command_and_the_old_key_stays_good(tmp_path):
    path = registry_file(tmp_path, GOOD_FILE)
    done = postern("secret", "rotate", "notes", cwd=tmp_path, POSTERN_STORE_KEY=STORE_KEY)
    assert "if the fleet was started with POSTERN_STORE_KEY" in done.stdout
    assert done.returncode == 0, done.stderr
    shown = json.loads(postern("registry", "show", "notes", "--json", cwd=tmp_path, POSTERN_STORE_KEY=STORE_KEY).stdout)
    new, old = shown["oauth"]["keys"]
    assert new["not_after"] is None
    assert old["kid"] == "k1"
    assert old["not_after"] is not None
    assert "secret: env:KEY_A" in path.read_text()
    again = postern("secret", "rotate", "notes", "--overlap", "0.5", cwd=tmp_path, POSTERN_STORE_KEY=STORE_KEY)
    assert again.returncode == 0, again.stderr
    assert path.read_text().count("kid:") == 3


def test_rotate_does_nothing_where_it_cannot_do_all(tmp_path):
    path = registry_file(tmp_path, GOOD_FILE)
    for arguments in (
        ("rotate", "nobody"),
        ("rotate", "notes"),
        ("rotate", "notes", "--secret", "env:NOT_SET"),
        ("rotate", "notes", "--secret", "env:KEY_A"),
    ):
        environ = {} if arguments == ("rotate", "notes") else {"POSTERN_STORE_KEY": STORE_KEY}
        done = postern("secret", *arguments, cwd=tmp_path, **environ)
        assert done.returncode == 1, arguments
        assert done.stderr
        assert path.read_text() == GOOD_FILE


def test_a_dry_run_of_rotate_prints_and_leaves(tmp_path):
    path = registry_file(tmp_path, GOOD_FILE)
    done = postern("secret", "rotate", "notes", "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "not_after" in done.stdout
    assert path.read_text() == GOOD_FILE


def test_import_shows_the_whole_command_and_asks(tmp_path):
    config = FIXTURES / "claude_desktop_config.json"
    refused = postern("import", str(config), cwd=tmp_path, stdin="n\nn\n")
    assert refused.returncode == 1
    assert "npx -y @modelcontextprotocol/server-filesystem '/srv/shared files'" in refused.stderr
    assert refused.stdout == ""
    taken = postern("import", str(config), cwd=tmp_path, stdin="n\ny\n")
    assert taken.returncode == 0
    assert "github:" in taken.stdout
    assert "file-system:" not in taken.stdout
    assert "ghp_not-a-real-token" not in taken.stdout + taken.stderr


def codes_of_a_check(directory: Path, **environ: str) -> set[str]:
    document = json.loads(postern("check", "--format", "json", cwd=directory, **environ).stdout)
    return {problem["code"] for problem in document["problems"]}


def test_import_into_a_file_that_the_registry_includes(tmp_path):
    registry_file(
        tmp_path, f"version: 1\ninclude: [servers/*.yaml]\nservers:\n  sentry: {{{GOOD}, port: 5000, {OAUTH_B}}}\n"
    )
    config = FIXTURES / "claude_code.mcp.json"
    arguments = (
        "import",
        str(config),
        "--into",
        "servers/imported.yaml",
        "--store",
        "--yes",
        "--input",
        "DATABASE_DSN:-postgres://localhost=postgres://db",
    )
    done = postern(*arguments, cwd=tmp_path, POSTERN_STORE_KEY=STORE_KEY)
    assert done.returncode == 0, done.stderr
    secrets = {"POSTERN_STORE_KEY": STORE_KEY, "DB_PASSWORD": "x"}
    assert codes_of_a_check(tmp_path, **secrets) - {"COMMAND-NOT-FOUND"} == {"SECRET-UNRESOLVED"}
    postern("secret", "set", "sentry-2-authorization", cwd=tmp_path, stdin="Bearer x", **secrets)
    assert codes_of_a_check(tmp_path, **secrets) <= {"COMMAND-NOT-FOUND"}
    assert "Bearer" not in (tmp_path / "servers/imported.yaml").read_text()
    assert "Authorization holds a placeholder" in done.stderr
    assert "sentry-2: to be set: store:sentry-2-authorization" in done.stderr
    twice = postern(*arguments, cwd=tmp_path, POSTERN_STORE_KEY=STORE_KEY)
    assert twice.returncode == 1


@pytest.mark.parametrize("content", ["", "{", '{"a": 1}'])
def test_import_of_something_else_exits_1(content: str, tmp_path):
    done = postern("import", "-", cwd=tmp_path, stdin=content)
    assert done.returncode == 1
    assert done.stderr.startswith("postern import: ")


def test_no_command_prints_a_traceback_for_a_bad_file(tmp_path):
    (tmp_path / "postern.yaml").write_bytes(b"\xff\x00[[[")
    for arguments in (
        ("check",),
        ("registry", "list"),
        ("secret", "rotate", "x"),
        ("import", str(FIXTURES / "cursor.mcp.json"), "--yes"),
    ):
        assert "Traceback" not in postern(*arguments, cwd=tmp_path).stderr


def test_two_servers_with_one_key_do_not_pass(tmp_path):
    registry_file(
        tmp_path,
        f"version: 1\nservers:\n  a: {{{A}}}\n  b: {{{GOOD}, port: 5002, {OAUTH_A.replace('a:use', 'b:use')}}}\n",
    )
    assert "KEY-SHARED" in postern("check", cwd=tmp_path).stdout
