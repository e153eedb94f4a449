"""What must be done so that exactly the declared fleet runs: `plan(world)`, a pure function of what is seen.

Applied and asked again, it plans nothing (as long as the world stays the same).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal

from supervisor_plugin.processes import Identity, Marked
from supervisor_plugin.states import MOVING, Status

ALIVE = frozenset({"preparing", "spawning", "checking", "running", "draining", "stopping"})


class Deed(StrEnum):
    END_STRAY = "end stray"
    STOP = "stop"
    FORGET = "forget"
    FINALISE = "finalise"
    ADOPT = "adopt"
    RESTART = "restart"
    REST = "let rest"
    START = "start"


@dataclass(frozen=True, slots=True)
class Declared:
    """A member of the fleet as the registry says. `binary` is None where there is no program of a server to compare."""

    name: str
    kind: Literal["internal", "external", "proxy"]
    binary: str | None = None
    mode: Literal["fresh", "adopt"] = "adopt"


@dataclass(frozen=True, slots=True)
class Recorded:
    """What the table `services` says about it, for this host. `seen_at`: when that was true for the last time."""

    name: str
    status: str
    process: Identity | None
    boot_id: str | None
    instance: str
    binary: str | None
    seen_at: float | None = None


@dataclass(frozen=True, slots=True)
class Program:
    """What supervisord says about it. `is_held`: an operator stopped it. `is_stopping`: it got its SIGTERM already."""

    name: str
    process: Identity | None
    is_held: bool = False
    is_stopping: bool = False


@dataclass(frozen=True, slots=True)
class World:
    """Everything that the plan depends on. `recorded` is None while the database cannot be read.

    `managed` has the status of each server that the listener already looks after: empty at boot. `revives` says that an
    operator asked, so that what failed or is held is tried again.
    """

    boot_id: str
    instance: str
    declared: Mapping[str, Declared]
    recorded: Mapping[str, Recorded] | None
    programs: Mapping[str, Program]
    strays: tuple[Marked, ...] = ()
    managed: Mapping[str, Status] = field(default_factory=dict[str, Status])
    revives: bool = False


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One thing to do. `process` is set where a particular process is meant."""

    deed: Deed
    name: str
    reason: str
    process: Identity | None = None


def plan(world: World) -> tuple[PlannedStep, ...]:
    """Return the steps in the order in which they must be done: what must end first, what must start last."""
    return (
        *_ending(world),
        *(step for name in sorted(world.declared) for step in _declared(world, world.declared[name])),
    )


def _ending(world: World) -> Iterator[PlannedStep]:
    for stray in sorted(world.strays, key=lambda process: process.identity):
        yield PlannedStep(Deed.END_STRAY, stray.server, "left over from an earlier launch", stray.identity)
    for name in sorted(world.programs.keys() - world.declared.keys()):
        if world.programs[name].process is not None:
            yield PlannedStep(Deed.STOP, name, "no longer declared", world.programs[name].process)
    for name in sorted((world.recorded or {}).keys() - world.declared.keys()):
        yield PlannedStep(Deed.FORGET, name, "no longer declared")


def _declared(world: World, member: Declared) -> Iterator[PlannedStep]:
    status = world.managed.get(member.name)
    if status in MOVING or status is Status.CRASHED:
        return  # its own life goes on by itself
    if status in (Status.FAILED, Status.HELD) and not world.revives:
        return
    if member.kind == "external":
        if status is None or (status is Status.STOPPED and not program_is_held(world, member.name)):
            yield PlannedStep(Deed.START, member.name, "declared")
        return
    program = world.programs.get(member.name, Program(member.name, None))
    if program.process is not None:
        yield from _running(world, member, program, program.process, status)
    else:
        yield from _absent(world, member, program, status)


def program_is_held(world: World, name: str) -> bool:
    """Whether an operator stopped it; a server without a process has this mark, too."""
    return name in world.programs and world.programs[name].is_held


def _running(
    world: World, member: Declared, program: Program, process: Identity, status: Status | None
) -> Iterator[PlannedStep]:
    recorded = (world.recorded or {}).get(member.name)
    if status is Status.RUNNING:
        if recorded is not None and member.binary is not None and recorded.binary not in (None, member.binary):
            yield PlannedStep(Deed.RESTART, member.name, "its program or definition was replaced", process)
        return
    if program.is_held:
        yield PlannedStep(Deed.REST, member.name, "stopped by an operator", process)
    elif program.is_stopping:  # it still answers, and a check would pass: its end is on the way all the same
        yield PlannedStep(Deed.RESTART, member.name, "it was being stopped", process)
    elif world.recorded is None or member.kind == "proxy":
        yield PlannedStep(Deed.ADOPT, member.name, "supervisord runs it already", process)
    elif member.mode == "fresh":
        yield PlannedStep(Deed.RESTART, member.name, "declared to start fresh", process)
    elif recorded is None or (recorded.process, recorded.boot_id) != (process, world.boot_id):
        yield PlannedStep(Deed.RESTART, member.name, "it runs without a record of its start", process)
    elif recorded.binary != member.binary:
        yield PlannedStep(Deed.RESTART, member.name, "its program or definition was replaced", process)
    else:
        yield PlannedStep(Deed.ADOPT, member.name, "healthy survivor, checked again first", process)


def _absent(world: World, member: Declared, program: Program, status: Status | None) -> Iterator[PlannedStep]:
    recorded = (world.recorded or {}).get(member.name)
    if status is None and recorded is not None and recorded.status in ALIVE:
        yield PlannedStep(Deed.FINALISE, member.name, _why_gone(world, recorded))
    if not program.is_held:
        yield PlannedStep(Deed.START, member.name, "declared")


def _why_gone(world: World, recorded: Recorded) -> str:
    if recorded.boot_id not in (None, world.boot_id):
        return "the machine was restarted"
    return "its process is gone" if recorded.process is not None else "its start was interrupted"
