"""Whatever goes through channels is received once: any program, any interleaving, wherever its log was cut."""

import random
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias

import anyio
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from skuld_async import (
    AtomicState,
    Cancelled,
    Channel,
    ChannelClosedError,
    Completed,
    Computation,
    Effect,
    Effectful,
    Handler,
    Log,
    Outcome,
    Parallel,
    Return,
    TimedOut,
    bracket,
    cancel,
    computation,
    fork,
    join,
    mark_loop,
    replay,
    resume,
    run,
    with_timeout,
)

from .programs import Outside, Question
from .scheduler import CUTS, RUN, Shot, World, all_wait, each, finish, step, stored

# -- programs as data ----------------------------------------------------------------------------------------------


class Call(Struct, frozen=True, tag=True):
    """A call outside, which takes its time."""


class Ask(Struct, frozen=True, tag=True):
    """A question."""


class Breath(Struct, frozen=True, tag=True):
    """The body awaits something of its own."""


Pause: TypeAlias = Call | Ask | Breath


class Producer(Struct, frozen=True):
    """Sends some values, with something in between."""

    count: int
    pauses: list[Pause]
    marked: bool = False
    as_task: bool = False


class Consumer(Struct, frozen=True, tag=True):
    """Receives until the channel is closed."""

    pauses: list[Pause]
    marked: bool = False


class Timed(Struct, frozen=True, tag=True):
    """Receives until the channel is closed, each time with a limit."""

    minutes: int


class Racing(Struct, frozen=True, tag=True):
    """Receives a few times, against calls that may be faster."""

    times: int


class Stopped(Struct, frozen=True, tag=True):
    """Tasks that receive, and are cancelled at some time."""

    times: int


class Giving(Struct, frozen=True, tag=True):
    """Sends of its own, against calls that may be faster."""

    times: int


Other: TypeAlias = Timed | Racing | Stopped | Giving


class Plan(Struct, frozen=True):
    capacity: int
    producers: list[Producer]
    consumers: list[Consumer]
    others: list[Other]


CHANNELS = [Channel(f"random.{capacity}", int, capacity=capacity) for capacity in range(4)]
got = AtomicState("random.got", list[int])
sent = AtomicState("random.sent", list[int])


def add(key: AtomicState[list[int]], value: int) -> Any:
    return key.modify(lambda values: [*values, value])


@computation
async def pause(pauses: list[Pause], number: int) -> Effectful[None]:
    match pauses[number % len(pauses)] if pauses else None:
        case Call():
            yield Outside.fetch(1)
        case Ask():
            yield Question(f"{number}")
        case Breath():
            await anyio.lowlevel.checkpoint()
        case None:
            pass


@computation
async def produce(plan: Plan, place: int) -> Effectful[None]:
    one, channel, number = plan.producers[place], CHANNELS[plan.capacity], 0
    while number < one.count:
        if one.marked:
            number = yield mark_loop("produce", int, carry=number)
        yield pause(one.pauses, number)
        yield channel.send(place * 100 + number)
        number += 1


@computation
async def consume(plan: Plan, place: int) -> Effectful[list[int]]:
    one, channel, seen = plan.consumers[place], CHANNELS[plan.capacity], list[int]()
    try:
        while True:
            if one.marked:
                seen = yield mark_loop("consume", list[int], carry=seen)
            value = yield channel.receive()
            seen = [*seen, value]
            yield pause(one.pauses, value)
    except ChannelClosedError:
        yield Return(seen)


@computation
async def take(channel: Channel[int], hold: Any) -> Effectful[str]:
    """A value that is accounted for, whatever stops this; "closed" where there is none."""
    try:
        yield bracket(channel.receive(), lambda _: hold, partial(add, got))
    except ChannelClosedError:
        yield Return("closed")
        return
    yield Return("taken")


@computation
async def fetch() -> Effectful[str]:
    yield Return((yield Outside.fetch(2)))


@computation
async def nothing() -> Effectful[None]:
    await anyio.lowlevel.checkpoint()
    nobody: tuple[Effect[Any], ...] = ()
    for item in nobody:
        yield item


@computation
async def disturb(plan: Plan, other: Other, place: int) -> Effectful[None]:
    channel = CHANNELS[plan.capacity]
    match other:
        case Timed(minutes):
            while True:
                said = yield with_timeout(take(channel, nothing()), timedelta(minutes=minutes))
                if said == "closed":
                    return
                assert said == "taken" or isinstance(said, TimedOut)
        case Racing(times):
            for _ in range(times):
                yield Parallel.race(taker=take(channel, fetch()), quick=fetch())
        case Stopped(times):
            for _ in range(times):
                task = yield fork(take(channel, fetch()))
                yield Outside.fetch(3)
                yield cancel(task)
        case Giving(times):
            for number in range(times):
                yield Parallel.race(giver=give(channel, 10_000 + place * 100 + number), quick=fetch())


@computation
async def give(channel: Channel[int], value: int) -> Effectful[None]:
    """A value that is said to be sent once it is."""
    try:
        yield bracket(channel.send(value), lambda _: fetch(), lambda _: add(sent, value))
    except ChannelClosedError:
        pass


@computation
async def produce_all(plan: Plan) -> Effectful[None]:
    tasks: list[Any] = []
    for place, one in enumerate(plan.producers):
        if one.as_task:
            tasks.append((yield fork(produce(plan, place))))
    yield Parallel.all(*(produce(plan, place) for place, one in enumerate(plan.producers) if not one.as_task))
    for task in tasks:
        yield join(task)
    yield CHANNELS[plan.capacity].close()


@computation
async def program(plan: Plan) -> Effectful[list[list[int]]]:
    """All that was received: by each consumer, and by the others together."""
    branches: list[Computation[Any]] = [produce_all(plan)]
    branches += [consume(plan, place) for place in range(len(plan.consumers))]
    branches += [disturb(plan, other, place) for place, other in enumerate(plan.others)]
    results = yield Parallel.all(*branches)
    seen = [list(one) for one in results[1 : 1 + len(plan.consumers)]]
    rest = yield got.get()
    given = yield sent.get()
    yield Return([*seen, rest, given])


class ChannelWorld(World):
    """Has the handlers of these programs."""

    @property
    def handlers(self) -> Sequence[Handler]:
        return [*super().handlers, got.handler([]), sent.handler([]), *(channel.handler() for channel in CHANNELS)]


# -- and what makes them -------------------------------------------------------------------------------------------

pauses = st.lists(st.builds(Call) | st.builds(Breath) | st.builds(Ask) | st.builds(Call), max_size=3)
numbers = st.integers(1, 3)
plans: st.SearchStrategy[Plan] = st.builds(
    Plan,
    st.integers(0, 3),
    st.lists(st.builds(Producer, st.integers(0, 4), pauses, st.booleans(), st.booleans()), min_size=1, max_size=3),
    st.lists(st.builds(Consumer, pauses, st.booleans()), min_size=1, max_size=3),
    st.lists(
        st.one_of(*(st.builds(kind, numbers) for kind in (Timed, Racing, Stopped, Giving))),
        max_size=2,
    ),
)
seeds = st.integers(0, 2**16)
choices: list[Any] = [{}, {"prune_branches": True}, {"state_keys": []}]
options = st.sampled_from(choices)


# -- what is checked -----------------------------------------------------------------------------------------------


def check_received(plan: Plan, outcome: Outcome[list[list[int]]]) -> None:
    """Each value that was sent was received exactly once; one consumer alone has those of each producer in order."""
    assert isinstance(outcome, Completed), outcome
    *seen, rest, given = outcome.value
    values = [place * 100 + number for place, one in enumerate(plan.producers) for number in range(one.count)]
    assert sorted([*(value for one in seen for value in one), *rest]) == sorted([*values, *given]), outcome.log
    for one in seen:
        for place in range(len(plan.producers)):
            own = [value for value in one if value // 100 == place]
            assert own == sorted(own), outcome.log
    assert [entry.id for entry in outcome.log.entries if entry.state == "started"] == [], outcome.log


async def check_replay(plan: Plan, outcome: Outcome[Any]) -> None:
    """The log of *outcome* comes to the same, strand by strand, and nothing is called."""
    world = ChannelWorld(0)
    log = stored(outcome.log)
    for verb in (replay, resume):
        again = await verb(program(plan), stored(log), *world.handlers)
        assert type(again) is type(outcome), log
        if isinstance(outcome, Completed):
            assert again.value == outcome.value, log
        assert again.log.to_json() == log.to_json()
    assert world.calls == {}, log


async def check_cut(plan: Plan, shot: Shot, seed: int, **more: Any) -> Outcome[Any]:
    """Go on from *shot* in another process."""
    cut = Log.from_json(shot.log)
    world = ChannelWorld(seed, shot.now)
    last = await finish(program(plan), world, cut, hot=bool(seed % 2), **more)
    settled = {f"{RUN}/{entry.id}" for entry in cut.entries if entry.state != "started"}
    assert settled.isdisjoint(world.calls), f"performed again\n{cut}\n{last.log}"
    other = {key for key, what in world.calls.items() if shot.calls.get(key, what) != what}
    assert other == set(), f"one key, two calls: {other}\n{cut}\n{last.log}"
    await check_replay(plan, last)
    return last


def cuts(world: World, seed: int) -> list[tuple[Shot, int]]:
    """Some of the moments at which the process of *world* may have died, each with a seed."""
    chance = random.Random(seed)
    shots = chance.sample(world.shots, min(CUTS, len(world.shots)))
    return [(shot, chance.randrange(100)) for shot in shots]


@each(60)
@given(plans, seeds, st.booleans())
async def test_every_value_is_received_once(plan: Plan, seed: int, hot: bool) -> None:
    """Whatever comes first, each value is received exactly once, and a replay gives each strand the same ones."""
    outcome = await finish(program(plan), ChannelWorld(seed), hot=hot)
    check_received(plan, outcome)
    await check_replay(plan, outcome)


@each(60)
@given(plans, seeds, st.booleans())
async def test_every_value_is_received_once_wherever_the_run_dies(plan: Plan, seed: int, hot: bool) -> None:
    """Nor is a value lost or doubled by a death of the process, at whatever entry."""
    world = ChannelWorld(seed)
    await finish(program(plan), world, hot=hot)
    for shot, other in cuts(world, seed):
        check_received(plan, await check_cut(plan, shot, other))


@each(40)
@given(plans, seeds, st.integers(0, 12))
async def test_a_host_that_is_cancelled_loses_nothing(plan: Plan, seed: int, moves: int) -> None:
    """A host cancel at any moment leaves a log from which each value is received exactly once."""
    world = ChannelWorld(seed)
    outcome = await step(program(plan), world, host_cancel_at=moves)
    assert world.pending == {}
    assert world.log is not None
    if outcome is None:
        shot = Shot(world.log.to_json(), dict(world.calls), world.clock.now)
        check_received(plan, await check_cut(plan, shot, seed))


@each(40)
@given(plans, seeds, st.integers(0, 12))
async def test_a_cancelled_run_comes_to_the_same(plan: Plan, seed: int, moves: int) -> None:
    """A run that is cancelled while strands wait at a channel comes to its end, and to the same on every replay."""
    world = ChannelWorld(seed)
    outcome = await finish(program(plan), world, hot=True, cancel_at=moves)
    assert [entry.id for entry in outcome.log.entries if entry.state == "started"] == [], outcome.log
    if isinstance(outcome, Cancelled):
        await check_replay(plan, outcome)
    for shot, other in cuts(world, seed):
        await check_cut(plan, shot, other)


@each(40)
@given(plans, seeds)
async def test_without_a_log_every_value_is_received_once(plan: Plan, seed: int) -> None:
    """`run` comes to the same, with nothing kept."""
    world = ChannelWorld(seed)
    world.log = Log()
    ended: list[list[list[int]]] = []

    def answer(question: Question) -> str:
        return f"answer to {question.about}"

    async def go() -> None:
        ended.append(await run(program(plan), *world.handlers, Question.handled_by(answer)))

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
    *seen, rest, given = ended[0]
    values = [place * 100 + number for place, one in enumerate(plan.producers) for number in range(one.count)]
    assert sorted([*(value for one in seen for value in one), *rest]) == sorted([*values, *given])
