"""A world whose calls end one at a time, in an order that chance gives; and the sessions that it drives."""

import asyncio
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar

import anyio
import msgspec
import pytest
import sniffio
import trio.testing
from hypothesis import HealthCheck, settings
from msgspec import UNSET

from skuld_async import (
    Computation,
    Handler,
    Log,
    Outcome,
    Session,
    Suspended,
    Wait,
    current_call,
    open_session,
    resume,
    start,
)
from skuld_async.testing import VirtualClock

from . import programs
from .programs import Outside, Question, Send, Tick, events, failure, is_failing, notes, sent, total

Move: TypeAlias = Callable[[], Awaitable[None]]
Test = TypeVar("Test", bound=Callable[..., Any])

TIMES = int(os.environ.get("RANDOM_PROGRAMS", "1"))
"""A longer run tries this many times as many programs."""

SECONDS = 60
"""For the programs of one test, where they are as many as usual."""

CUTS = 6 * TIMES
"""How many of the moments at which a run may die are tried."""


def each(examples: int) -> Callable[[Test], Test]:
    """The settings of a test that tries so many programs, and the time for it: a longer run takes longer."""
    chosen = settings(
        max_examples=examples * TIMES,
        deadline=None,
        derandomize=True,
        database=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    return lambda test: pytest.mark.timeout(SECONDS * TIMES**2)(chosen(test))


RUN = "run"
PATIENCE = 20
"""Seconds after which a run that should stand still is given up."""


async def all_wait() -> None:
    """Come back when no other task can move."""
    if sniffio.current_async_library() == "trio":
        await trio.testing.wait_all_tasks_blocked()
        return
    here = asyncio.current_task()
    while any(_can_move(task) for task in asyncio.all_tasks() if task is not here):  # noqa: ASYNC110 - there is no event
        await asyncio.sleep(0)


def _can_move(task: Any) -> bool:
    waiter = task._fut_waiter
    return waiter is None or waiter.done()


class Shot(NamedTuple):
    """What a process leaves that dies: what was written of its log, what was called until then, and the time."""

    log: bytes
    calls: dict[str, str]
    now: datetime


class World:
    """The outside of one process, driven by chance."""

    def __init__(self, seed: int, now: datetime | None = None) -> None:
        self.chance = random.Random(seed)
        self.clock = VirtualClock(now)
        self.log: Log | None = None
        """Of the run that is shot."""
        self.calls: dict[str, str] = {}
        """What was called, by key."""
        self.pending: dict[str, anyio.Event] = {}
        """The calls that are out."""
        self.shots: list[Shot] = []
        self.changed = anyio.Event()
        self.moves = 0
        """How often the world did something."""

    # -- the run's side ----------------------------------------------------------------------------------------------

    @property
    def handlers(self) -> Sequence[Handler]:
        """The outermost scope of each program."""
        return [
            self.clock.handler(),
            total.handler(1),
            notes.handler(),
            events.handler(),
            Outside.handler(self),
            Tick.handled_by(self.tick),
            Send.handled_by(sent),
        ]

    async def fetch(self, number: int) -> str:
        await self._out(f"fetch {number}")
        if is_failing(number):
            raise failure(number)
        return f"fetched {number}"

    async def acquire(self) -> str:
        await self._out("acquire")
        return current_call().key

    async def release(self, what: str) -> None:
        await self._out(f"release {what}")

    def tick(self, effect: Tick) -> int:
        self._begin(f"tick {effect.number}")
        return effect.number

    def _begin(self, what: str) -> str:
        key = current_call().key
        assert key not in self.calls, f"{key} is called twice by one process"
        self.calls[key] = what
        self.shoot()
        return key

    async def _out(self, what: str) -> None:
        key = self._begin(what)
        event = self.pending[key] = anyio.Event()
        self.notify()
        try:
            await event.wait()
        finally:
            del self.pending[key]
            self.shoot()

    def shoot(self, _: object = None) -> None:
        """Keep what there would be if the process died now."""
        if self.log is not None and self.log.header.run:
            shot = Shot(self.log.to_json(), dict(self.calls), self.clock.now)
            if not self.shots or self.shots[-1].log != shot.log:
                self.shots.append(shot)

    def notify(self) -> None:
        """Wake whoever waits for something to happen."""
        changed, self.changed = self.changed, anyio.Event()
        changed.set()

    # -- the driver's side -------------------------------------------------------------------------------------------

    def ends(self) -> list[Move]:
        """The calls that may end now."""
        return [partial(_end, event) for event in self.pending.values() if not event.is_set()]

    def passes(self) -> list[Move]:
        """That time passes, where somebody waits for it."""
        assert self.log is not None
        now = self.clock.now
        due = [
            entry.deadline
            for entry in self.log.entries
            if entry.state == "started" and entry.deadline is not UNSET and entry.deadline > now
        ]
        return [partial(self._pass, min(due) - now)] if due else []

    async def _pass(self, by: timedelta) -> None:
        self.clock.advance(by)

    async def move(self, moves: Sequence[Move]) -> None:
        """Do one of *moves*."""
        self.moves += 1
        await self.chance.choice(moves)()


async def _end(event: anyio.Event) -> None:
    event.set()


async def finish(
    comp: Computation[Any], world: World, log: Log | None = None, *, hot: bool, cancel_at: int | None = None
) -> Outcome[Any]:
    """Run *comp* to its end, or go on with *log*.

    Args:
        comp: What is run.
        world: Drives it.
        log: Where it goes on.
        hot: In one session; else it suspends whenever no strand can move.
        cancel_at: Cancel the run after so many moves of the world.
    """
    return await (_finish_hot(comp, world, log, cancel_at) if hot else _finish_cold(comp, world, log))


async def _finish_hot(comp: Computation[Any], world: World, log: Log | None, cancel_at: int | None) -> Outcome[Any]:
    options: dict[str, Any] = {"id": RUN, "seed": "seed"} if log is None else {"log": log}
    found: Outcome[Any] | None = None
    async with (
        open_session(comp, *world.handlers, observe=[world.shoot], **options) as session,
        anyio.create_task_group() as group,
    ):
        world.log = session.log
        while found is None or isinstance(found, Suspended):
            await all_wait()
            world.shoot()
            if cancel_at is not None and world.moves >= cancel_at:
                cancel_at = None
                group.start_soon(session.cancel, "enough")
                continue
            moves = [*world.ends(), *world.passes(), *answers(session)]
            if moves:
                await world.move(moves)
            else:
                found = await _outcome(session, world)
    assert found is not None
    return found


async def _outcome(session: Session[Any], world: World) -> Outcome[Any] | None:
    """The outcome of *session*, or None where the world has something to do first."""
    changed = world.changed
    found: list[Outcome[Any]] = []

    async def watch(scope: anyio.CancelScope) -> None:
        await changed.wait()
        scope.cancel()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            group.start_soon(watch, group.cancel_scope)
            found.append(await session.outcome())
            group.cancel_scope.cancel()
    return found[0] if found else None


def answers(session: Session[Any]) -> list[Move]:
    """The answers that may be given now."""

    def give(wait: Wait) -> Move:
        return lambda: session.answer(_answer(wait), to=wait)

    return [give(wait) for wait in session.log.waits if session._questions.is_parked(wait.id)]


def _answer(wait: Wait) -> str:
    return programs.answer(msgspec.json.decode(wait.question, type=Question))


async def _finish_cold(comp: Computation[Any], world: World, log: Log | None) -> Outcome[Any]:
    given: dict[str, str] = {}
    while True:
        outcome = await step(comp, world, log, given)
        assert outcome is not None
        if not isinstance(outcome, Suspended):
            return outcome
        log = stored(outcome.log)
        given = {
            wait.ref: _answer(wait)
            for wait in outcome.waits
            if (wait.deadline is None or wait.deadline > world.clock.now) and world.chance.random() < 0.5
        }
        if not given and outcome.wake_at is not None and outcome.wake_at > world.clock.now:
            world.clock.advance(outcome.wake_at - world.clock.now)


async def step(
    comp: Computation[Any],
    world: World,
    log: Log | None = None,
    given: Mapping[str, str] | None = None,
    host_cancel_at: int | None = None,
) -> Outcome[Any] | None:
    """Start *comp*, or go on with *log*, until it ends or suspends; None where its host was cancelled.

    Args:
        comp: What is run.
        world: Drives it.
        log: Where it goes on.
        given: Answers, by the ``ref`` of their waits.
        host_cancel_at: Cancel the host after so many moves of the world.
    """
    world.log = into = Log()
    outcomes: list[Outcome[Any] | None] = []

    async def host(scope: anyio.CancelScope) -> None:
        with scope:
            if log is None:
                outcome = await start(comp, *world.handlers, id=RUN, seed="seed", into=into, observe=[world.shoot])
            else:
                outcome = await resume(comp, log, *world.handlers, answers=given, into=into, observe=[world.shoot])
            outcomes.append(outcome)
        if not outcomes:
            outcomes.append(None)
        world.notify()

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as group:
            scope = anyio.CancelScope()
            group.start_soon(host, scope)
            while not outcomes:
                await all_wait()
                world.shoot()
                changed = world.changed
                if outcomes:
                    break
                if host_cancel_at is not None and world.moves >= host_cancel_at:
                    host_cancel_at = None
                    scope.cancel()
                    continue
                moves = world.ends()
                moves += world.passes() if moves else []
                if moves:
                    await world.move(moves)
                else:
                    await changed.wait()
    return outcomes[0]


def stored(log: Log) -> Log:
    """*log* as another process reads it."""
    return Log.from_json(log.to_json())
