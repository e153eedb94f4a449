"""What reconciliation plans, and that it plans nothing more once that is done."""

from collections.abc import Mapping
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor_plugin.processes import Identity, Marked
from supervisor_plugin.reconcile import Declared, Deed, PlannedStep, Program, Recorded, World, plan
from supervisor_plugin.states import Status

BOOT, OLD_BOOT, US = "boot-2", "boot-1", "fleet-1"
P, Q = Identity(10, 100), Identity(11, 200)


def world(
    declared: Mapping[str, Declared] | None = None,
    recorded: Mapping[str, Recorded] | None = None,
    programs: Mapping[str, Program] | None = None,
) -> World:
    return World(BOOT, US, declared or {}, recorded or {}, programs or {})


def alpha(**changes: object) -> Declared:
    return replace(Declared("alpha", "internal", "binary-1"), **changes)


def row(process: Identity | None = P, **changes: object) -> Recorded:
    return replace(Recorded("alpha", "running", process, BOOT, US, "binary-1"), **changes)


def deeds(seen: World) -> list[tuple[Deed, str]]:
    return [(step.deed, step.name) for step in plan(seen)]


def test_a_pending_server_is_started():
    assert deeds(world({"alpha": alpha()})) == [(Deed.START, "alpha")]


def test_a_row_without_its_process_is_finalised_with_the_reason():
    gone = plan(world({"alpha": alpha()}, {"alpha": row()}))
    assert [(step.deed, step.reason) for step in gone] == [
        (Deed.FINALISE, "its process is gone"),
        (Deed.START, "declared"),
    ]
    rebooted = plan(world({"alpha": alpha()}, {"alpha": row(boot_id=OLD_BOOT)}))
    assert rebooted[0].reason == "the machine was restarted"
    interrupted = plan(world({"alpha": alpha()}, {"alpha": row(None, boot_id=None, status="preparing")}))
    assert interrupted[0].reason == "its start was interrupted"


def test_a_recorded_survivor_of_the_same_program_is_adopted():
    seen = world({"alpha": alpha()}, {"alpha": row()}, {"alpha": Program("alpha", P)})
    assert plan(seen) == (PlannedStep(Deed.ADOPT, "alpha", "healthy survivor, checked again first", P),)


def test_a_survivor_is_restarted_when_it_cannot_be_vouched_for():
    programs = {"alpha": Program("alpha", P)}
    for declared, recorded, reason in (
        (alpha(mode="fresh"), {"alpha": row()}, "declared to start fresh"),
        (alpha(binary="binary-2"), {"alpha": row()}, "its program or definition was replaced"),
        (alpha(), {"alpha": row(Q)}, "it runs without a record of its start"),
        (alpha(), {"alpha": row(boot_id=OLD_BOOT)}, "it runs without a record of its start"),
        (alpha(), {}, "it runs without a record of its start"),
    ):
        (step,) = plan(world({"alpha": declared}, recorded, programs))
        assert (step.deed, step.reason, step.process) == (Deed.RESTART, reason, P)


def test_what_supervisord_is_stopping_is_never_adopted_though_it_still_answers():
    stopping = {"alpha": Program("alpha", P, is_stopping=True)}
    (step,) = plan(world({"alpha": alpha()}, {"alpha": row()}, stopping))
    assert (step.deed, step.reason, step.process) == (Deed.RESTART, "it was being stopped", P)
    held = {"alpha": Program("alpha", P, is_held=True, is_stopping=True)}
    (step,) = plan(world({"alpha": alpha()}, {"alpha": row()}, held))
    assert (step.deed, step.reason, step.process) == (Deed.REST, "stopped by an operator", P)


def test_without_the_database_what_runs_is_kept():
    seen = replace(world({"alpha": alpha()}, None, {"alpha": Program("alpha", P)}), recorded=None)
    assert deeds(seen) == [(Deed.ADOPT, "alpha")]


def test_strays_and_removed_servers_end_before_anything_starts():
    stray = Marked(Q, "beta", "9-90", 1)
    recorded = {"gone": replace(row(), name="gone")}
    seen = world({"alpha": alpha()}, recorded, {"gone": Program("gone", P)})
    assert deeds(replace(seen, strays=(stray,))) == [
        (Deed.END_STRAY, "beta"),
        (Deed.STOP, "gone"),
        (Deed.FORGET, "gone"),
        (Deed.START, "alpha"),
    ]


def test_what_an_operator_stopped_stays_stopped():
    held = {"alpha": Program("alpha", None, is_held=True), "far": Program("far", None, is_held=True)}
    declared = {"alpha": alpha(), "far": Declared("far", "external")}
    managed = {"alpha": Status.STOPPED, "far": Status.STOPPED}
    assert deeds(replace(world(declared, {}, held), managed=managed)) == []
    assert deeds(replace(world(declared, {}, held), managed=managed, revives=True)) == []


def test_held_and_failed_servers_are_tried_again_only_when_an_operator_asks():
    for status in (Status.HELD, Status.FAILED):
        seen = replace(world({"alpha": alpha()}, {"alpha": row(None)}), managed={"alpha": status})
        assert deeds(seen) == []
        assert deeds(replace(seen, revives=True)) == [(Deed.START, "alpha")]


names = st.sampled_from(["alpha", "beta", "gamma", "postern-proxy"])
identities = st.builds(Identity, st.integers(2, 40), st.integers(1, 5))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    declared = {
        name: Declared(
            name,
            "proxy" if name == "postern-proxy" else draw(st.sampled_from(["internal", "external"])),
            draw(st.sampled_from(["b1", "b2"])),
            draw(st.sampled_from(["fresh", "adopt"])),
        )
        for name in draw(st.sets(names))
    }
    programs = {
        name: Program(name, draw(st.none() | identities), draw(st.booleans()), draw(st.booleans()))
        for name in draw(st.sets(names))
    }
    recorded = {
        name: Recorded(
            name,
            draw(st.sampled_from([status.value for status in Status])),
            draw(st.none() | identities | st.just(programs[name].process if name in programs else None)),
            draw(st.sampled_from([BOOT, OLD_BOOT, None])),
            US,
            draw(st.sampled_from(["b1", "b2", None])),
        )
        for name in draw(st.sets(names))
    }
    strays = tuple(Marked(identity, draw(names), "1-1", 1) for identity in draw(st.lists(identities, max_size=3)))
    seen = World(BOOT, US, declared, draw(st.just(recorded) | st.none()), programs, strays)
    managed = {name: draw(st.sampled_from(list(Status))) for name in draw(st.sets(names)) & declared.keys()}
    return replace(seen, managed=managed, revives=draw(st.booleans()))


def apply(seen: World) -> World:
    """Do what is planned, as the listener does it and as everything works at once."""
    declared, programs, managed = seen.declared, dict(seen.programs), dict(seen.managed)
    recorded = dict(seen.recorded or {})
    for step in plan(seen):
        held = step.name in programs and programs[step.name].is_held
        match step.deed:
            case Deed.END_STRAY:
                continue
            case Deed.STOP:
                programs[step.name] = Program(step.name, None, held)
            case Deed.FORGET:
                recorded.pop(step.name)
            case Deed.REST:
                programs[step.name], managed[step.name] = Program(step.name, None, held), Status.STOPPED
            case Deed.FINALISE:
                recorded[step.name] = replace(recorded[step.name], status="stopped", process=None)
            case Deed.ADOPT | Deed.RESTART | Deed.START:
                process = step.process if step.deed is Deed.ADOPT else Identity(99, 99)
                if declared[step.name].kind != "external":
                    programs[step.name] = Program(step.name, process, held)
                managed[step.name] = Status.RUNNING
                binary = declared[step.name].binary
                recorded[step.name] = Recorded(step.name, "running", process, BOOT, US, binary)
    for name in declared.keys() - managed.keys():
        managed[name] = Status.STOPPED
    return replace(seen, recorded=recorded, programs=programs, managed=managed, strays=())


def settled(seen: World) -> World:
    """What is on its way when a plan is made arrives by itself; the listener knows then what supervisord knows."""
    managed = {
        name: Status.RUNNING if seen.programs.get(name, Program(name, None)).process else status
        for name, status in seen.managed.items()
    }
    return replace(seen, managed=managed)


@settings(max_examples=500)
@given(worlds())
def test_a_second_plan_right_after_the_first_is_empty(seen: World):
    assert plan(seen) == plan(seen)
    assert plan(apply(settled(seen))) == ()


@settings(max_examples=300)
@given(worlds())
def test_a_plan_ends_before_it_starts_and_touches_only_what_it_may(seen: World):
    steps = plan(seen)
    order = [step.deed in (Deed.END_STRAY, Deed.STOP, Deed.FORGET) for step in steps]
    assert order == sorted(order, reverse=True)
    for step in steps:
        if step.deed in (Deed.START, Deed.ADOPT, Deed.RESTART, Deed.REST):
            assert step.name in seen.declared
        if step.deed is Deed.START:
            assert seen.programs.get(step.name, Program(step.name, None)).process is None or (
                seen.declared[step.name].kind == "external"
            )
        if step.deed in (Deed.STOP, Deed.FORGET):
            assert step.name not in seen.declared
