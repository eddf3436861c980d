"""Any program with tasks in its background comes to the same from its log, wherever that was cut."""

import functools
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeAlias

import anyio
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import Struct

from skuld_async import (
    AtomicState,
    Cancelled,
    Clock,
    Completed,
    Computation,
    Effect,
    Effectful,
    Failed,
    Handler,
    Log,
    Outcome,
    Parallel,
    Return,
    Task,
    bracket,
    cancel,
    computation,
    fork,
    join,
    mark_loop,
    replay,
    resume,
    run,
)

from .programs import Happened, Outside, Question, Tick, events, is_failing, notes, shown, total
from .scheduler import CUTS, RUN, Shot, World, all_wait, each, finish, step, stored

# -- programs as data ----------------------------------------------------------------------------------------------


class Call(Struct, frozen=True, tag=True):
    """A call outside, which takes its time; it fails for some numbers."""

    number: int


class Count(Struct, frozen=True, tag=True):
    """A call outside that is answered at once."""

    number: int


class Put(Struct, frozen=True, tag=True):
    number: int


class Read(Struct, frozen=True, tag=True):
    """State as this strand sees it."""


class Note(Struct, frozen=True, tag=True):
    text: str


class Happen(Struct, frozen=True, tag=True):
    number: int


class Add(Struct, frozen=True, tag=True):
    """To what the strands share."""

    number: int


class Swap(Struct, frozen=True, tag=True):
    """What the strands share, if it is so much."""

    expected: int
    number: int


class See(Struct, frozen=True, tag=True):
    """What the strands share."""


class Ask(Struct, frozen=True, tag=True):
    """A question, with a time or without."""

    about: str
    minutes: int | None = None


class Pass(Struct, frozen=True, tag=True):
    """Time passes."""

    minutes: int


class Think(Struct, frozen=True, tag=True):
    """The body awaits something of its own."""


class Hold(Struct, frozen=True, tag=True):
    """Steps with something that was acquired, and has to be released."""

    steps: list["Step"]


class Ensure(Struct, frozen=True, tag=True):
    """Steps with their cleanup."""

    steps: list["Step"]
    cleanup: list["Step"]


class Try(Struct, frozen=True, tag=True):
    """Steps whose error is an answer."""

    steps: list["Step"]


class Insist(Struct, frozen=True, tag=True):
    """Steps, and other ones whatever stops them: a body that catches what it should not."""

    steps: list["Step"]
    others: list["Step"]


class Sub(Struct, frozen=True, tag=True):
    """A computation with a scope of its own."""

    steps: list["Step"]
    number: int


class Plain(Struct, frozen=True, tag=True):
    """A computation whose body is a plain coroutine."""

    steps: list["Step"]


class Relay(Struct, frozen=True, tag=True):
    """A call that a computation answers."""

    steps: list["Step"]


class All(Struct, frozen=True, tag=True):
    branches: list[list["Step"]]


class Race(Struct, frozen=True, tag=True):
    branches: list[list["Step"]]


class Fork(Struct, frozen=True, tag=True):
    steps: list["Step"]


class Join(Struct, frozen=True, tag=True):
    """Of one of the tasks that this activation has forked."""

    which: int


class Stop(Struct, frozen=True, tag=True):
    """One of the tasks that this activation has forked."""

    which: int


class Loop(Struct, frozen=True, tag=True):
    """Marked iterations, each with a task that it joins or cancels."""

    steps: list["Step"]
    others: list["Step"]
    times: int
    stops: bool = False


Step: TypeAlias = (
    Call
    | Count
    | Put
    | Read
    | Note
    | Happen
    | Add
    | Swap
    | See
    | Ask
    | Pass
    | Think
    | Hold
    | Ensure
    | Try
    | Insist
    | Sub
    | Plain
    | Relay
    | All
    | Race
    | Fork
    | Join
    | Stop
    | Loop
)

shared = AtomicState("shared", int)


class Send(Effect[str], frozen=True):
    """Has a computation as its handler."""

    steps: list[Step]


def request(item: Step, tasks: list[Task[Any]]) -> Any:  # noqa: C901, PLR0911, PLR0912 - a case a step
    """What a body requests for one step, or None."""
    match item:
        case Call(number):
            return Outside.fetch(number)
        case Count(number):
            return Tick(number)
        case Put(number):
            return total.put(number)
        case Read():
            return total.get()
        case Note(text):
            return notes.tell(text)
        case Happen(number):
            return events.emit(Happened(number))
        case Add(number):
            return shared.modify(lambda value: value + number)
        case Swap(expected, number):
            return shared.compare_and_set(expected, number)
        case See():
            return shared.get()
        case Ask(about, None):
            return Question(about)
        case Ask(about, int(minutes)):
            return Question(about).within(timedelta(minutes=minutes))
        case Pass(minutes):
            return Clock.sleep(timedelta(minutes=minutes))
        case Hold(steps):
            return bracket(Outside.acquire(), functools.partial(holding, steps), Outside.release)
        case Ensure(steps, cleanup):
            return program(steps).ensure(program(cleanup))
        case Try(steps):
            return attempt(steps)
        case Insist(steps, others):
            return insist(steps, others)
        case Sub(steps, number):
            return program(steps).handle(total.handler(number), notes.handler(), shared.handler(number))
        case Plain(steps):
            return plain(steps)
        case Relay(steps):
            return relayed(steps).handle(Send.handled_by(sent))
        case All(branches):
            return Parallel.all(*map(program, branches))
        case Race(branches):
            return Parallel.race(**{f"b{place}": program(one) for place, one in enumerate(branches)})
        case Fork(steps):
            return fork(program(steps) if len(steps) != 1 else plain(steps))
        case Join(which) if tasks:
            return join(tasks[which % len(tasks)])
        case Stop(which) if tasks:
            return cancel(tasks[which % len(tasks)])
        case Loop(steps, others, times, stops):
            return loop(steps, others, times, stops)
        case _:
            return None


def holding(steps: list[Step], _what: str) -> Computation[list[str]]:
    return program(steps)


@computation
async def program(steps: list[Step]) -> Effectful[list[str]]:
    """Do the steps; what each of them saw is the result."""
    seen: list[str] = []
    tasks: list[Task[Any]] = []
    for item in steps:
        requested = request(item, tasks)
        if requested is None:
            await anyio.lowlevel.checkpoint()
            continue
        said: Any = yield requested
        if isinstance(item, Fork):
            tasks.append(said)
        else:
            seen.append(shown(said))
    yield Return(seen)


@computation
async def plain(steps: list[Step]) -> list[str]:
    """As `program`, in a plain coroutine."""
    seen: list[str] = []
    tasks: list[Task[Any]] = []
    for item in steps:
        requested = request(item, tasks)
        if requested is None:
            await anyio.lowlevel.checkpoint()
            continue
        said: Any = await requested
        if isinstance(item, Fork):
            tasks.append(said)
        else:
            seen.append(shown(said))
    return seen


@computation
async def attempt(steps: list[Step]) -> Effectful[str]:
    try:
        said = yield program(steps)
    except Exception as error:  # noqa: BLE001 - it is an answer as well
        said = error
    yield Return(shown(said))


@computation
async def insist(steps: list[Step], others: list[Step]) -> Effectful[str]:
    said: Any = ""
    try:
        said = yield program(steps)
    except BaseException:  # noqa: BLE001 - what is tested
        said = yield program(others)
    yield Return(shown(said))


@computation
async def loop(steps: list[Step], others: list[Step], times: int, stops: bool) -> Effectful[list[str]]:
    seen: list[str] = []
    while True:
        seen = yield mark_loop("loop", list[str], carry=seen)
        if len(seen) == times:
            yield Return(seen)
            return
        task = yield fork(program(others))
        said = yield program(steps)
        if stops:
            yield cancel(task)
        else:
            said = [said, (yield join(task))]
        seen = [*seen, shown(said)]


@computation
async def relayed(steps: list[Step]) -> Effectful[str]:
    yield Return((yield Send(steps)))


@computation
async def sent(effect: Send) -> Effectful[str]:
    """Handles `Send`."""
    yield notes.tell("sent")
    yield shared.modify(lambda value: value + 1)
    said = yield program(effect.steps)
    yield Return(shown(said))


class TaskWorld(World):
    """Has the handlers of these programs."""

    @property
    def handlers(self) -> Sequence[Handler]:
        return [*super().handlers, shared.handler(0)]


# -- and what makes them -------------------------------------------------------------------------------------------


def is_fine(number: int) -> bool:
    return not is_failing(number)


def programs_of(*, calm: bool) -> st.SearchStrategy[list[Step]]:
    """Programs; the result of calm ones does not depend on what comes first."""
    numbers = st.integers(1, 30)
    minutes = st.integers(1, 4)
    places = st.integers(0, 3)
    texts = st.sampled_from("abc")
    calls = st.builds(Call, numbers.filter(is_fine) if calm else numbers)
    simple: list[st.SearchStrategy[Step]] = [
        calls,
        calls,
        st.builds(Count, numbers),
        st.builds(Put, numbers),
        st.builds(Read),
        st.builds(Note, texts),
        st.builds(Happen, numbers),
        st.builds(Ask, texts),
        st.builds(Pass, minutes),
        st.builds(Think),
        st.builds(Join, places),
        st.builds(Join, places),
    ]
    if not calm:
        simple += [
            st.builds(Add, numbers),
            st.builds(Swap, st.integers(0, 3), st.integers(0, 3)),
            st.builds(See),
            st.builds(Ask, texts, minutes),
            st.builds(Stop, places),
        ]

    def bigger(inner: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
        steps = st.lists(inner, max_size=4)
        several = st.lists(steps, min_size=2, max_size=3)
        few = st.lists(inner, max_size=2)
        forks = st.builds(Fork, steps)
        options: list[st.SearchStrategy[Step]] = [
            inner,
            forks,
            forks,
            forks,
            st.builds(Hold, steps),
            st.builds(Ensure, steps, st.lists(calls, max_size=2)),
            st.builds(Try, steps),
            st.builds(Sub, steps, numbers),
            st.builds(Plain, steps),
            st.builds(Relay, steps),
            st.builds(All, several),
            st.builds(Loop, few, few, st.integers(1, 3)),
        ]
        if not calm:
            options += [
                st.builds(Race, several),
                st.builds(Insist, steps, few),
                st.builds(Loop, few, few, st.integers(1, 3), st.just(value=True)),
            ]
        return st.one_of(options)

    return st.lists(st.recursive(st.one_of(simple), bigger, max_leaves=14), min_size=1, max_size=6)


wild, calm = programs_of(calm=False), programs_of(calm=True)
seeds = st.integers(0, 2**16)


# -- what is checked -----------------------------------------------------------------------------------------------


def told(outcome: Outcome[Any]) -> dict[str, Any]:
    """All that an outcome tells, but for its log."""
    return {
        "outcome": type(outcome).__name__,
        "value": outcome.value if isinstance(outcome, Completed) else None,
        "error": shown(outcome.error) if isinstance(outcome, Failed) else None,
        "state": (outcome.state(total), outcome.state(shared)),
        "told": (outcome.output(events), outcome.output(notes)),
    }


def check_ended(outcome: Outcome[Any]) -> None:
    """Nothing is open, each id is there once, and whatever was acquired was released once."""
    log = stored(outcome.log)
    assert [entry.id for entry in log.entries if entry.state == "started"] == [], log
    assert max(Counter(entry.id for entry in log.entries).values(), default=1) == 1, log
    held = Counter(
        f'{{"what":{bytes(entry.value).decode()}}}'
        for entry in log.entries
        if entry.sig.endswith("Outside.acquire") and entry.state == "executed"
    )
    released = Counter(
        bytes(entry.data).decode()
        for entry in log.entries
        if entry.sig.endswith("Outside.release") and entry.state == "executed"
    )
    assert held == released, log


async def check_replay(steps: list[Step], outcome: Outcome[Any]) -> None:
    """The log of *outcome* comes to the same, and nothing is called."""
    world = TaskWorld(0)
    log = stored(outcome.log)
    for verb in (replay, resume):
        again = await verb(program(steps), stored(log), *world.handlers)
        assert told(again) == told(outcome), log
        assert again.log.to_json() == log.to_json()
    assert world.calls == {}, log


async def check_cut(steps: list[Step], shot: Shot, seed: int) -> Outcome[Any]:
    """Go on from *shot* in another process."""
    cut = Log.from_json(shot.log)
    world = TaskWorld(seed, shot.now)
    last = await finish(program(steps), world, cut, hot=bool(seed % 2))
    check_ended(last)
    settled = {f"{RUN}/{entry.id}" for entry in cut.entries if entry.state != "started"}
    assert settled.isdisjoint(world.calls), f"performed again\n{cut}\n{last.log}"
    other = {key for key, what in world.calls.items() if shot.calls.get(key, what) != what}
    assert other == set(), f"one key, two calls: {other}\n{cut}\n{last.log}"
    await check_replay(steps, last)
    return last


def cuts(world: World, seed: int) -> list[tuple[Shot, int]]:
    """Some of the moments at which the process of *world* may have died, each with a seed."""
    chance = random.Random(seed)
    shots = chance.sample(world.shots, min(CUTS, len(world.shots)))
    return [(shot, chance.randrange(100)) for shot in shots]


JOIN_AFTER_A_TASK: list[Step] = [Loop([Fork([Think()])], [Call(5)], 1)]
"""The join of a task that fails comes after a call that was held for a task of its own."""


@each(80)
@given(wild, seeds, st.booleans())
@example(JOIN_AFTER_A_TASK, 0, False)
async def test_a_replay_comes_to_the_same(steps: list[Step], seed: int, hot: bool) -> None:
    """The log of any program with tasks, whatever ended first, replayed comes to the same and performs nothing."""
    first = await finish(program(steps), TaskWorld(seed), hot=hot)
    assert isinstance(first, Completed | Failed)
    check_ended(first)
    await check_replay(steps, first)


@each(60)
@given(wild, seeds, st.booleans())
async def test_a_run_that_dies_anywhere_goes_on(steps: list[Step], seed: int, hot: bool) -> None:
    """Whatever was written when the process died, a resume comes to an end.

    What was performed is not performed again, what was acquired is released once.
    """
    world = TaskWorld(seed)
    await finish(program(steps), world, hot=hot)
    for shot, other in cuts(world, seed):
        await check_cut(steps, shot, other)


@each(40)
@given(calm, seeds, st.booleans())
async def test_a_calm_run_comes_to_the_same_after_any_death(steps: list[Step], seed: int, hot: bool) -> None:
    """Where the result does not depend on what is faster, it is the same after any crash."""
    world = TaskWorld(seed)
    straight = await finish(program(steps), world, hot=hot)
    for shot, other in cuts(world, seed):
        assert told(await check_cut(steps, shot, other)) == told(straight)


@each(40)
@given(wild, seeds, st.integers(0, 12))
async def test_a_host_that_is_cancelled_leaves_nothing_running(steps: list[Step], seed: int, moves: int) -> None:
    """A host cancel at any moment ends all strands, and a resume goes on from the log that is left."""
    world = TaskWorld(seed)
    outcome = await step(program(steps), world, host_cancel_at=moves)
    assert world.pending == {}
    assert world.log is not None
    if outcome is None:
        shot = Shot(world.log.to_json(), dict(world.calls), world.clock.now)
        await check_cut(steps, shot, seed)


CLEANUP_THAT_FAILS_IN_A_HANDLER: list[Step] = [Relay([Ensure([], [Call(25)])])]


@each(60)
@given(wild, seeds, st.integers(0, 12))
@example(CLEANUP_THAT_FAILS_IN_A_HANDLER, 0, 0)
async def test_a_cancelled_run_comes_to_the_same(steps: list[Step], seed: int, moves: int) -> None:
    """A run that is cancelled at any moment does its cleanup; so does a resume of whatever a death of it left."""
    world = TaskWorld(seed)
    outcome = await finish(program(steps), world, hot=True, cancel_at=moves)
    check_ended(outcome)
    if isinstance(outcome, Cancelled):
        await check_replay(steps, outcome)
    for shot, other in cuts(world, seed):
        await check_cut(steps, shot, other)


@each(40)
@given(wild, seeds)
async def test_a_run_without_a_log_comes_to_an_end(steps: list[Step], seed: int) -> None:
    """`run` ends its tasks too: nothing is left running, and what was acquired was released."""
    world = TaskWorld(seed)
    world.log = Log()
    ended: list[bool] = []

    def answer(question: Question) -> str:
        return f"answer to {question.about}"

    async def go() -> None:
        with suppress(Exception):  # of a step that fails
            await run(program(steps), *world.handlers, Question.handled_by(answer))
        ended.append(True)

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(go)
            while not ended:
                await all_wait()
                moves = world.ends()
                if moves:
                    await world.move(moves)
                else:
                    world.clock.advance(timedelta(minutes=1))
                    await anyio.lowlevel.checkpoint()
    assert world.pending == {}
    acquired = Counter(f"release {key}" for key, what in world.calls.items() if what == "acquire")
    released = Counter(what for what in world.calls.values() if what.startswith("release "))
    assert released == acquired
