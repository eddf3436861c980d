"""Any concurrent program, whatever ends first, comes to the same from its log, wherever that was cut."""

import random
from datetime import timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import UNSET

from skuld_async import Cancelled, Completed, Failed, Log, Outcome, Suspended, replay, resume

from . import programs
from .programs import (
    All,
    Ask,
    Call,
    Ensure,
    Happen,
    Hold,
    Map,
    Now,
    Pass,
    Put,
    Race,
    Relay,
    Step,
    Timed,
    events,
    notes,
    program,
    total,
)
from .scheduler import CUTS, Shot, World, each, finish, step, stored

seeds = st.integers(0, 2**16)

# -- programs that chance finds rarely ---------------------------------------------------------------------------------

TIMED_CLEANUP: list[Step] = [Ensure([], [Timed([Happen(1), Call(1)], 1)])]
"""A cleanup that has a time of its own, and goes on to its end when that is over."""

RACING_CLEANUP: list[Step] = [Ensure([], [Race([[Happen(1), Call(1)], [Happen(2), Call(2)], [Call(3)]])])]
"""A race whose losers come to their ends too."""

CALL_IN_A_HANDLER: list[Step] = [Timed([Relay(1)], 1)]
"""A process that dies while a handler has a call out, and a time that is over before the next one."""

ONE_AT_A_TIME: list[Step] = [Timed([Map([[Pass(3), Relay(21)], [Pass(4)], [Happen(8)]], limit=1)], 1)]
"""Branches that have not begun when what holds them is stopped."""

FAILING_CLEANUP: list[Step] = [Timed([Call(3), Ensure([Happen(5), Now(), Call(14)], [Call(5), Now()])], 1)]
"""A time that is over, and a cleanup that fails."""

TIME_OVER_IN_CLEANUP: list[Step] = [Timed([Hold([Put(11)], [14, 19])], 3)]
"""A time that is over while what was cancelled before does its cleanup."""

WAITING_CLEANUP: list[Step] = [Ensure([Call(1), Call(2)], [All([[Pass(4)], [Call(2)]])])]
"""A cleanup one of whose branches has no time to sleep."""

ASKING_CLEANUP: list[Step] = [Ensure([], [All([[Ask("a"), Call(1), Ask("b")], [Call(2)]])])]
"""A cleanup one of whose branches has asked before, and asks again."""


def told(outcome: Outcome[Any]) -> dict[str, Any]:
    """All that an outcome tells, but for its log."""
    return {
        "outcome": type(outcome).__name__,
        "value": outcome.value if isinstance(outcome, Completed) else None,
        "error": programs.shown(outcome.error) if isinstance(outcome, Failed) else None,
        "cancelled": outcome.reason if isinstance(outcome, Cancelled) else None,
        "state": outcome.state(total),
        "told": (outcome.output(events), outcome.output(notes)),
    }


def check_same(outcome: Outcome[Any], first: Outcome[Any]) -> None:
    """Both tell the same."""
    assert told(outcome) == told(first), f"{first.log}\n{outcome.log}"


def settled(log: Log) -> set[str]:
    """The keys of what *log* says is over."""
    return {f"{log.header.run}/{entry.id}" for entry in log.entries if entry.state != "started"}


def check_decisions(cut: Log, last: Log) -> None:
    """What was decided in *cut* stands in *last*, to which the failure of a cleanup may have been added."""
    decided = {entry.id: entry.strands for entry in last.entries}
    for entry in cut.entries:
        if entry.strands is not UNSET:
            now = decided[entry.id]
            assert now is not UNSET, f"{cut}\n{last}"
            assert (now.won, now.timed_out) == (entry.strands.won, entry.strands.timed_out), f"{cut}\n{last}"
            assert set(now.failed) >= set(entry.strands.failed), f"{cut}\n{last}"


def made(log: Log) -> set[tuple[str, str, bytes]]:
    """What was requested, and under which id."""
    return {(entry.id, entry.sig, bytes(entry.data)) for entry in log.entries}


def check_ended(outcome: Outcome[Any]) -> None:
    """Nothing is left open, no id is there twice, and whatever was acquired was released, once."""
    assert not isinstance(outcome, Suspended)
    log = stored(outcome.log)
    assert [entry.id for entry in log.entries if entry.state == "started"] == [], f"{log}"
    calls = {
        kind: [one for one in log.entries if one.sig.endswith(f"Outside.{kind}")] for kind in ("acquire", "release")
    }
    held = [f'{{"what":{bytes(one.value).decode()}}}' for one in calls["acquire"] if one.state == "executed"]
    released = [bytes(one.data).decode() for one in calls["release"] if one.state == "executed"]
    assert sorted(held) == sorted(released), f"{log}"


async def check_replay(steps: list[Step], first: Outcome[Any]) -> None:
    """The log of *first* comes to the same again, and nothing is performed."""
    world = World(0)
    for verb in (replay, resume):
        again = await verb(program(steps), stored(first.log), *world.handlers)
        check_same(again, first)
        assert again.log.to_json() == first.log.to_json(), f"{first.log}\n{again.log}"
    assert world.calls == {}


async def check_cut(steps: list[Step], shot: Shot, seed: int) -> Outcome[Any]:
    """Go on from *shot* in another process, now or some minutes later, to the end, which is given."""
    cut = Log.from_json(shot.log)
    world = World(seed, shot.now + timedelta(minutes=seed // 2 % 4))
    last = await finish(program(steps), world, cut, hot=bool(seed % 2))
    check_ended(last)
    logs = f"{cut}\n{last.log}"
    again = set(world.calls) & settled(cut)
    assert again == set(), f"performed again: {again}\n{logs}"
    changed = {key for key, what in shot.calls.items() if world.calls.get(key, what) != what}
    assert changed == set(), f"one key for two calls: {changed}\n{logs}"
    check_decisions(cut, last.log)
    await check_replay(steps, last)
    return last


def cuts(world: World, seed: int) -> list[tuple[Shot, int]]:
    """Some of the moments at which the process of *world* may have died, each with a seed for the next one."""
    chance = random.Random(seed)
    return [(shot, chance.randrange(2**16)) for shot in chance.sample(world.shots, min(CUTS, len(world.shots)))]


@each(100)
@given(programs.wild, seeds, st.booleans())
@example(TIMED_CLEANUP, 0, True)
async def test_a_replay_comes_to_the_same(steps: list[Step], seed: int, hot: bool) -> None:
    """The log of any program, whatever ended first, replayed comes to the same and performs nothing."""
    first = await finish(program(steps), World(seed), hot=hot)

    assert isinstance(first, Completed | Failed)
    check_ended(first)
    await check_replay(steps, first)


@each(60)
@given(programs.wild, seeds, st.booleans())
@example(RACING_CLEANUP, 6, True)
@example(CALL_IN_A_HANDLER, 0, False)
@example(ONE_AT_A_TIME, 0, True)
@example(FAILING_CLEANUP, 1, True)
async def test_a_run_that_dies_anywhere_goes_on(steps: list[Step], seed: int, hot: bool) -> None:
    """Whatever was written when the process died, a resume comes to an end, whatever ends first now.

    What was performed is not performed again, what was decided stays decided, what was acquired is released.
    """
    world = World(seed)
    await finish(program(steps), world, hot=hot)
    for shot, other in cuts(world, seed):
        await check_cut(steps, shot, other)


@each(40)
@given(programs.calm, seeds, st.booleans())
async def test_a_result_that_does_not_depend_on_time_is_the_same_after_a_crash(
    steps: list[Step], seed: int, hot: bool
) -> None:
    """Where nobody wins or loses, and what fails stops nobody else, any crash leaves what comes to the same."""
    world = World(seed)
    straight = await finish(program(steps), world, hot=hot)
    for shot, other in cuts(world, seed):
        last = await check_cut(steps, shot, other)
        check_same(last, straight)
        assert made(last.log) == made(straight.log)


@each(60)
@given(programs.calm, seeds, seeds)
async def test_ids_do_not_depend_on_time(steps: list[Step], seed: int, other: int) -> None:
    """Whatever ends first, each effect has the same id; and the result is the same."""
    one = await finish(program(steps), World(seed), hot=True)
    two = await finish(program(steps), World(other), hot=False)

    assert made(one.log) == made(two.log)
    check_same(one, two)


@each(60)
@given(programs.wild, seeds, st.integers(0, 12))
async def test_a_run_whose_host_is_cancelled_goes_on(steps: list[Step], seed: int, moves: int) -> None:
    """A host that is cancelled leaves nothing running, and a log from which the run goes on to its end."""
    world = World(seed)
    await step(program(steps), world, host_cancel_at=moves)

    assert world.pending == {}
    assert world.log is not None
    if world.log.header.run:
        await check_cut(steps, Shot(world.log.to_json(), world.calls, world.clock.now), seed)


@each(60)
@given(programs.wild, seeds, st.integers(0, 12))
@example(TIME_OVER_IN_CLEANUP, 1, 0)
@example(WAITING_CLEANUP, 0, 1)
@example(ASKING_CLEANUP, 0, 2)
async def test_a_run_that_is_cancelled_does_its_cleanup(steps: list[Step], seed: int, moves: int) -> None:
    """A run cancel leaves nothing running and nothing held; each replay is cancelled, at the same places.

    So is each resume of what a crash leaves behind of it.
    """
    world = World(seed)
    outcome = await finish(program(steps), world, hot=True, cancel_at=moves)

    assert world.pending == {}
    check_ended(outcome)
    await check_replay(steps, outcome)
    for shot, other in cuts(world, seed):
        last = await check_cut(steps, shot, other)
        if Log.from_json(shot.log).header.status == "cancelled":
            assert isinstance(last, Cancelled)
