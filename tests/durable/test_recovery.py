"""Workers die, and others take over what they had: what was settled is not performed again."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import anyio
import pytest

from skuld_async import Effectful, OutcomeUnknown, Parallel, Return, computation
from skuld_async.durable import Runtime, StuckRunError
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore

from .parts import (
    PATIENCE,
    Desk,
    Line,
    Office,
    asks,
    becomes,
    comment,
    dying,
    open_waits,
    plain,
    put_away,
    runtime,
    side_by_side,
    stands,
    stored,
    until,
)

Connect = Callable[[], Store]


class Death(NamedTuple):
    """When a worker dies at its second call."""

    append: int
    how: Literal["before", "after"]
    times: int
    """How often that call arrives then."""


IN_THE_CALL = Death(0, "before", 2)
DEATHS = [IN_THE_CALL, Death(2, "before", 2), Death(2, "after", 1)]


@pytest.mark.parametrize("death", DEATHS, ids=["in-the-call", "before-the-append", "after-the-append"])
async def test_a_dead_worker_is_replaced(connect: Connect, death: Death) -> None:
    """Whatever is in the store is not performed again; a call that may have been made is, under its own key."""
    first, second, store = Desk("b") if death is IN_THE_CALL else Desk(), Desk(), connect()
    line = Line(store)
    if death is not IN_THE_CALL:
        line.breaks_at(death.append, death.how, dies=True)
    async with dying(line, first) as one:
        await one.start(plain("a", "b", "c"), id="one")
        with anyio.fail_after(PATIENCE):
            await (first.at("b") if death is IN_THE_CALL else line.cut).wait()
    async with runtime(connect(), second) as two:
        assert await two.get("one").result(10) == "C"
    keys = first.keys + second.keys
    assert {what: [what for what, _ in keys].count(what) for what in "abc"} == {"a": 1, "b": death.times, "c": 1}
    assert set(keys) == {("a", "one/0/1"), ("b", "one/0/2"), ("c", "one/0/3")}


async def test_a_dead_worker_is_missed_by_others(connect: Connect) -> None:
    """One that is running notices it by itself, and takes what the dead one had: moving runs and those that wait."""
    desk = Desk("slow")
    line = Line(connect())
    async with runtime(connect(), desk) as two:
        async with dying(line, desk, idle=60) as one:
            await one.start(side_by_side(["x"], ["slow"]), id="moving")
            await desk.at("slow").wait()
            await one.start(asks("y"), id="waiting")
            await stands(one, "waiting")
        desk.let("slow")
        for wait in await open_waits(two, count=2):
            await two.answer(wait, "yes")
        assert await two.get("moving").result(10) == ["X YES", "SLOW"]
        assert await two.get("waiting").result(10) == "y: yes"
    assert desk.times == {"slow": 2, "before y": 1, "after y": 1, "x yes": 1}


async def test_a_run_that_kills_its_workers_is_dead(caplog: pytest.LogCaptureFixture) -> None:
    """After so many takeovers without progress nobody takes it any more; its release lets it go on."""
    caplog.set_level(logging.CRITICAL, "skuld_async.runtime")
    store, desk = MemoryStore(), Desk()
    kills = [True]

    async def do(what: str) -> str:
        if what == "kills" and kills[0]:
            lines[-1].cut.set()
            await anyio.sleep_forever()
        return await desk.do(what)

    lines, office = list[Line](), [Office.do.handled_by(do)]
    for number in range(4):
        lines.append(Line(store))
        async with dying(lines[-1], desk, *office, max_recoveries=2) as one:
            if number == 0:
                await one.start(plain("a", "kills", "b"), id="one")
            if number == 3:
                view = await becomes(one, "one", "dead")
                assert view.problem is not None
                assert view.problem.type.endswith("RecoveriesError")
                with pytest.raises(StuckRunError, match="dead"):
                    await one.get("one").result(10)
            else:
                with anyio.fail_after(PATIENCE):
                    await lines[-1].cut.wait()
    kills[0] = False
    async with runtime(store, desk, *office, max_recoveries=2) as two:
        assert await two.release("one")
        assert await two.get("one").result(10) == "B"
        assert (await stored(store, "one")).recoveries == 0
    assert desk.times == {"a": 1, "kills": 1, "b": 1}


async def test_a_run_that_gets_on_is_not_dead() -> None:
    """However often its workers die, takeovers count only while nothing is appended in between."""
    store, desk, whats = MemoryStore(), Desk(), [f"{number}" for number in range(8)]
    for number in range(8):
        line = Line(store)
        line.breaks_at(1, "after", dies=True)
        async with dying(line, desk, max_recoveries=1) as one:
            if number == 0:
                await one.start(plain(*whats), id="one")
            with anyio.fail_after(PATIENCE):
                await line.cut.wait()
    async with runtime(store, desk, max_recoveries=1) as two:
        assert await two.get("one").result(10) == "7"
    assert desk.done == whats


async def test_a_run_that_waits_is_not_blamed() -> None:
    """Workers that die while it stands still do not make it dead: it was none of its doing."""
    store, desk = MemoryStore(), Desk()
    for number in range(5):
        line = Line(store)
        async with dying(line, desk, idle=60, max_recoveries=2) as one:
            if number == 0:
                await one.start(asks("x"), id="one")
            await until(one, partial(_has_taken, one, line))
            await stands(one, "one")
    async with runtime(store, desk, max_recoveries=2) as two:
        (wait,) = await open_waits(two)
        await two.answer(wait, "yes")
        assert await two.get("one").result(10) == "x: yes"


async def _has_taken(one: Runtime, line: Line) -> bool:
    return "one" in one._dispatcher.active and bool(line.appends)


async def _was_called(desk: Desk, times: dict[str, int]) -> bool:
    return desk.times == times


async def test_a_worker_that_lost_its_lease_writes_nothing() -> None:
    """It ends at most the calls that are out, one a strand; what it hears is not in the log."""
    store = MemoryStore()
    late, desk = Desk("a", "c"), Desk()
    line = Line(store)
    async with runtime(line, late) as one:
        await one.start(side_by_side([], ["a", "c"]), id="one")
        await one.start(plain("a", "b"), id="two")
        await until(one, partial(_was_called, late, {"a": 2, "c": 1}))
        written = len(line.appends)
        await _take_away(store, one._worker.id)
        async with runtime(store, desk) as two:
            assert await two.get("one").result(10) == ["A", "C"]
            assert await two.get("two").result(10) == "B"
            late.let("a", "c")
            await put_away(one)
    assert len(line.appends) == written
    assert late.times == {"a": 2, "c": 1}
    assert desk.times == {"a": 2, "b": 1, "c": 1}
    assert set(late.keys) <= set(desk.keys)


async def _take_away(store: Store, worker: str) -> None:
    """Let the others think that *worker* is dead."""
    async with store:
        await store.claim("thief", now=0, limit=100, workflows=[plain.name, side_by_side.name], dead=[worker])
        for run in ("one", "two"):
            record = await store.get(run)
            assert record is not None
            assert record.owner == "thief"


@computation
async def both() -> Effectful[tuple[str, str]]:
    yield Return((yield Parallel.all(comment("x"), plain("c", "d"))))


async def test_a_worker_that_lost_a_waiting_run_lets_it_go() -> None:
    """Where one branch waits for an answer and the other ends its call, no more is asked or called of that run."""
    store, late, desk = MemoryStore(), Desk("c"), Desk()
    async with runtime(store, late, workflows=[both], idle=60) as one:
        await one.start(both(), id="one")
        await open_waits(one)
        async with store:
            await store.claim("thief", now=0, limit=9, workflows=[both.name], dead=[one._worker.id])
        late.let("c")
        await put_away(one)
        assert late.done == ["c"]
        async with runtime(store, desk, workflows=[both]) as two:
            (wait,) = await open_waits(two)
            await two.answer(wait, "yes")
            assert await two.get("one").result(10) == ("X YES", "D")


async def test_what_is_called_at_most_once_is_not_called_again(connect: Connect) -> None:
    """Whoever takes over a run that was in such a call raises `OutcomeUnknown` there; one that was settled is known."""

    @computation
    async def careful() -> Effectful[list[str]]:
        said: list[str] = []
        for what in ("a", "b"):
            try:
                said.append((yield Office.once(what)))
            except OutcomeUnknown as error:
                said.append(error.key)
        yield Return(said)

    first, second = Desk("b"), Desk()
    async with dying(Line(connect()), first, workflows=[careful]) as one:
        await one.start(careful(), id="one")
        await first.at("b").wait()
    async with runtime(connect(), second, workflows=[careful]) as two:
        assert await two.get("one").result(10) == ["A", "one/0/2"]
    assert (first.done, second.done) == (["a", "b"], [])
