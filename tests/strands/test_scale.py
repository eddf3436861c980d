"""Many branches, and deep ones."""

from typing import Any

import anyio
import pytest

from skuld_async import Computation, Effect, Effectful, Parallel, Return, computation, open_session, replay, run, start

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    calls,
    cancelled,
    completed,
    states,
    stored,
    suspended,
)

MANY, LIMIT, DEEP = 10_000, 16, 50


class Weigh(Effect[int], frozen=True):
    number: int


@pytest.mark.timeout(60)
async def test_ten_thousand_branches_with_a_limit() -> None:
    """10,000 branches in one map with a limit: never more than the limit run at once, and a replay calls nothing."""
    running = most = made = 0

    async def weigh(effect: Weigh) -> int:
        nonlocal running, most, made
        running, made = running + 1, made + 1
        most = max(most, running)
        await anyio.lowlevel.checkpoint()
        running -= 1
        return effect.number * 2

    comp = Parallel.map(Weigh, range(MANY), limit=LIMIT)
    outcome = completed(await start(comp, Weigh.handled_by(weigh)))
    assert outcome.value == [number * 2 for number in range(MANY)]
    assert most == LIMIT
    assert made == MANY
    assert len(outcome.log.entries) == MANY + 1
    replayed = completed(await replay(comp, stored(outcome.log), Weigh.handled_by(weigh)))
    assert replayed.value == outcome.value
    assert made == MANY


def nested(depth: int, innermost: Computation[Any] | Effect[Any]) -> Computation[Any]:
    """*innermost* below *depth* levels of `Parallel.all`, each with a call beside it."""
    comp: Any = innermost
    for level in range(depth):
        comp = Parallel.all(comp, Call(f"{level}"))
    return comp  # type: ignore[no-any-return]


def unwrapped(value: Any, depth: int) -> Any:
    for level in reversed(range(depth)):
        value, beside = value
        assert beside == f"{level}"
    return value


async def test_nesting_fifty_deep() -> None:
    """50 levels of branches in branches: all are performed once, resumed cold, and replayed."""
    comp = nested(DEEP, Ask("deep"))
    desk = Desk()
    outcome = suspended(await start(comp, *desk.handlers))
    assert len(desk.arrived) == DEEP
    assert outcome.waits[0].id.count(".") == DEEP
    later = Desk()
    ended = completed(await again(comp, outcome.log, *later.handlers, answer="yes"))
    assert later.arrived == []
    assert unwrapped(ended.value, DEEP) == "yes"
    assert completed(await replay(comp, stored(ended.log), *Desk().handlers)).value == ended.value


async def test_fifty_deep_without_a_log() -> None:
    """The same depth with `run`."""
    assert unwrapped(await run(nested(DEEP, Call("deep")), *Desk().handlers), DEEP) == "DEEP"


async def test_a_cancel_fifty_deep() -> None:
    """7.7 A run cancel reaches the innermost of 50 levels; each level does its cleanup, from inside to outside."""
    comp: Computation[Any] = calls("hang")
    for level in range(DEEP):
        comp = Parallel.all(comp.ensure(Release(f"{level}")))
    desk = Desk()
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("hang").wait()
        outcome = cancelled(await session.cancel())
    assert desk.arrived == ["hang", *(f"release {level}" for level in range(DEEP))]
    assert "started" not in states(outcome.log).values()
    later = Desk()
    assert cancelled(await again(comp, outcome.log, *later.handlers)).log.to_json() == outcome.log.to_json()
    assert later.arrived == []


@computation
async def spawns(depth: int) -> Effectful[int]:
    """A tree of branches, each of which opens two more."""
    if depth == 0:
        yield Call("leaf")
        yield Return(1)
        return
    left, right = yield Parallel.all(spawns(depth - 1), spawns(depth - 1))
    yield Return(left + right)


async def test_a_tree_of_branches() -> None:
    """512 leaves of a tree of branches, each with a key of its own."""
    desk = Desk()
    outcome = completed(await start(spawns(9), *desk.handlers))
    assert outcome.value == 512
    assert len(set(desk.keys)) == 512
    assert completed(await replay(spawns(9), stored(outcome.log), *Desk().handlers)).value == 512
