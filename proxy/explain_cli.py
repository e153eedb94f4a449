"""`postern explain`: the decision about one call and its reasons, from the code that decides live (SPEC R10)."""

import asyncio
import os
import sys
from dataclasses import dataclass
from time import time
from typing import Literal

import click
import msgspec

from proxy.auth.bearer import ServerAuth
from proxy.auth.claims import parse_scopes
from proxy.auth.identity import Anonymous, Authenticated, Identity
from proxy.auth.issuer import CannotIssueError
from proxy.auth.metadata import issuer_of
from proxy.auth.token_cli import find_server
from proxy.authorize import Decision, Policy
from proxy.errors import Refusal
from proxy.wire.era import Era
from proxy.wire.jsonrpc import Envelope, EnvelopeKind
from registry.check_cli import gate_or_exit, registry_option
from registry.models import Agent, Fleet, Server
from registry.secrets import SecretError, SecretReader

EXIT_DENIED = 1
NOBODY = "somebody"
STDIN = "-"
What = Literal["tool", "prompt", "resource"]
_ASKED: dict[What, tuple[str, str]] = {
    "tool": ("tools/call", "name"),
    "prompt": ("prompts/get", "name"),
    "resource": ("resources/read", "uri"),
}


@dataclass(frozen=True, slots=True)
class Question:
    """Whether this caller may use that."""

    what: What
    name: str
    identity: Identity | Refusal


def answer(fleet: Fleet, server: Server, question: Question) -> tuple[dict[str, object], bool]:
    """Return what would happen, for people and programs, and whether the call would be let through. Pure."""
    asked = {"server": server.name, question.what: question.name}
    if isinstance(question.identity, Refusal):
        return {**asked, **_outcome(question.identity)}, False
    method, key = _ASKED[question.what]
    params = {key: question.name}
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    policy = Policy.build(fleet, server)
    envelope = Envelope(EnvelopeKind.REQUEST, 1, method, params, message)
    decision = policy.decide(question.identity, "POST", envelope, Era.MODERN)
    outcome = {"decision": decision.code, "reason": decision.reason}
    if not decision.allowed:
        outcome = {**_outcome(policy.refusal(decision, Era.MODERN)), **_hint(server, question.what, decision)}
    return {**asked, **_caller(question.identity, decision), **outcome, **_scopes(decision)}, decision.allowed


def _outcome(refusal: Refusal) -> dict[str, object]:
    told = {"caller is told": refusal.answer()[1]} if refusal.told else {}
    challenge = dict(refusal.headers).get(b"www-authenticate")
    shown = {"challenge": challenge.decode("ascii")} if challenge else {}
    return {"decision": refusal.code, "reason": refusal.reason, **told, "status": refusal.status, **shown}


def _hint(server: Server, what: What, decision: Decision) -> dict[str, object]:
    """Say where it would be declared: a caller is told no more than that it is unknown."""
    if decision.code != f"authz.unknown_{what}":
        return {}
    return {"hint": f"it is not declared: name it under servers.{server.name}.{what}s"}


def _caller(identity: Identity, decision: Decision) -> dict[str, object]:
    if isinstance(identity, Anonymous):
        return {"caller": "anonymous"}
    who = identity.subject + (f" through {identity.client}" if identity.client else "")
    return {"caller": who, "agent": decision.agent}


def _scopes(decision: Decision) -> dict[str, object]:
    scopes = {"required": decision.required, "held": decision.held, "matched": decision.matched}
    return {name: " ".join(found) or "none" for name, found in scopes.items()}


def as_agent(fleet: Fleet, name: str | None, scopes: frozenset[str], server: Server) -> Authenticated:
    """Return a caller whom the agent's manifest binds, with these scopes. Raises `CannotIssueError`."""
    agent = find_agent(fleet, name) if name else Agent(name=NOBODY, subjects=(NOBODY,))
    if not agent.subjects and not agent.clients:
        raise CannotIssueError(f"agent {agent.name} names no subjects and no clients, so it is nobody's")
    subject = next(iter(agent.subjects), NOBODY)
    return Authenticated(
        "explained", issuer_of(fleet, server), subject, next(iter(agent.clients), None), scopes, float("inf")
    )


def find_agent(fleet: Fleet, name: str) -> Agent:
    """Return an agent by name; raises `CannotIssueError` that lists those there are."""
    if name not in fleet.agents:
        raise CannotIssueError(f"there is no agent {name!r}; there are: {', '.join(fleet.agents) or 'none'}")
    return fleet.agents[name]


@click.command("explain")
@click.option("--server", "server_name", required=True, help="The server that is called.")
@click.option("--tool", default=None, help="The tool that is called.")
@click.option("--prompt", default=None, help="The prompt that is asked for.")
@click.option("--resource", default=None, help="The resource (URI) that is read.")
@click.option("--agent", default=None, help="The agent that calls.")
@click.option("--scope", default=None, help='The scopes that the caller holds, separated by spaces: "a b".')
@click.option("--token", default=None, help="The caller's bearer token instead; - reads it from standard input.")
@click.option("--anonymous", is_flag=True, help="A caller without any credential instead.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@registry_option
def command(
    *,
    server_name: str,
    tool: str | None,
    prompt: str | None,
    resource: str | None,
    agent: str | None,
    scope: str | None,
    token: str | None,
    anonymous: bool,
    as_json: bool,
    file: str | None,
) -> None:
    """Say what the proxy would decide about a call, and why: exit 0 if it would let it through, 1 if not."""
    what, name = _one_of(tool, prompt, resource)
    if anonymous + (token is not None) + (scope is not None or agent is not None) > 1:
        raise click.UsageError("--token, --anonymous, and --scope with --agent exclude each other")
    path, result = gate_or_exit(file)
    if result.fleet is None:  # the gate has said why and left
        return
    fleet = result.fleet
    try:
        server = find_server(fleet, server_name)
        if anonymous or token is not None:
            door = ServerAuth.build(fleet, server, SecretReader(path.absolute().parent, os.environ))
            identity = present(door, sys.stdin.read().strip() if token == STDIN else token)
        else:
            identity = as_agent(fleet, agent, read_scopes(scope), server)
    except (ValueError, SecretError) as error:
        raise click.ClickException(str(error)) from None
    found, is_allowed = answer(fleet, server, Question(what, name, identity))
    click.echo(msgspec.json.encode(found).decode() if as_json else render(found, is_allowed=is_allowed))
    if not is_allowed:
        sys.exit(EXIT_DENIED)


def _one_of(tool: str | None, prompt: str | None, resource: str | None) -> tuple[What, str]:
    asked: list[tuple[What, str | None]] = [("tool", tool), ("prompt", prompt), ("resource", resource)]
    named: list[tuple[What, str]] = [(what, name) for what, name in asked if name is not None]
    if len(named) != 1:
        raise click.UsageError("name one of --tool, --prompt and --resource")
    return named[0]


def read_scopes(text: str | None) -> frozenset[str]:
    """Return the scopes of an option. Raises `CannotIssueError`."""
    scopes = parse_scopes(text or "")
    if scopes is None:
        raise CannotIssueError(f"{text!r} are not scopes")
    return scopes


def present(door: ServerAuth, credential: str | None) -> Identity | Refusal:
    """Ask the door itself; keys of an issuer are fetched as they are live."""
    headers = [] if credential is None else [(b"authorization", b"Bearer " + credential.encode("latin-1", "replace"))]
    return asyncio.run(door.authenticate(headers, time()))


def render(found: dict[str, object], *, is_allowed: bool) -> str:
    """Return the answer for people, one fact a line."""
    lines = [f"{'allowed' if is_allowed else 'denied'}: {found['reason']}"]
    for name, value in found.items():
        if name != "reason" and value is not None:
            lines.append(f"  {name:<16} {value}")
    return "\n".join(lines)
