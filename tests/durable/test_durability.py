"""What is written when, and what becomes of a run whose store fails: nothing that was performed is performed again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Literal

import anyio
import pytest

from skuld_async import (
    AtomicState,
    Clock,
    Effectful,
    EventAccumulator,
    Fresh,
    Parallel,
    Reader,
    Return,
    State,
    Writer,
    computation,
)
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore
from skuld_async.testing import VirtualClock

from .parts import (
    PATIENCE,
    Cut,
    Desk,
    Line,
    Office,
    asks,
    comment,
    dying,
    open_waits,
    plain,
    runtime,
    side_by_side,
    stands,
    stored,
)

Connect = Callable[[], Store]

total = State("durable.total", int)
notes = Writer("durable.notes", str)
events = EventAccumulator("durable.events", str)
limit = Reader("durable.limit", int)
shared = AtomicState("durable.shared", int)
HANDLERS = [total.handler(0), notes.handler(), events.handler(), limit.handler(3), shared.handler(0)]


@computation
async def local(calls: int) -> Effectful[int]:
    """Calls with all kinds of local effects around them."""
    for number in range(calls):
        yield total.modify(lambda value: value + 1)
        yield notes.tell("said")
        yield events.emit("happened")
        yield Fresh.uuid()
        yield Office.do(f"{number}")
        yield total.put((yield total.get()) + 1)
    yield Return((yield total.get()))


@computation
async def unstable(what: str) -> Effectful[str]:
    """Something that would not come out the same again, and a call behind it."""
    yield Office.do("first")
    if what == "now":
        yield Clock.now()
    elif what == "ask":
        yield limit.ask()
    elif what == "atomic":
        yield shared.modify(lambda value: value + 1)
    elif what == "race":
        yield Parallel.race(a=nothing(), b=nothing())
    yield Return((yield Office.do("second")))


@computation
async def nothing() -> Effectful[int]:
    yield Return((yield total.get()))


WORKFLOWS = [local, unstable, plain, asks, comment, side_by_side]


@pytest.mark.parametrize("calls", [0, 1, 7])
async def test_a_call_takes_an_append_and_nothing_else_does(calls: int) -> None:
    """8.2 One append for each external effect, none for local ones, and one for the end; a fresh run loads nothing."""
    line = Line(MemoryStore())
    async with runtime(line, Desk(), *HANDLERS, workflows=WORKFLOWS) as one:
        run = await one.start(local(calls), id="one")
        assert await run.result(10) == 2 * calls
    assert len(line.appends_of("one")) == calls + 1
    assert line.calls["create"] == 1
    assert line.calls["load"] == line.calls["inbox"] == 0


@pytest.mark.parametrize("what", ["now", "ask", "atomic", "race"])
async def test_what_would_not_come_out_the_same_is_kept_before_a_call(what: str) -> None:
    """8.2 A recorded effect, `AtomicState`, or a race's winner takes one more append, before the call behind it."""
    line = Line(MemoryStore())
    desk = Desk("second")
    async with runtime(line, desk, *HANDLERS, workflows=WORKFLOWS) as one:
        run = await one.start(unstable(what), id="one")
        await desk.at("second").wait()
        assert len(line.appends_of("one")) == 2
        desk.let("second")
        await run.result(10)
    assert len(line.appends_of("one")) == 4
    other = Line(MemoryStore())
    async with runtime(other, Desk(), *HANDLERS, workflows=WORKFLOWS) as two:
        await (await two.start(unstable(""), id="two")).result(10)
    assert len(other.appends_of("two")) == 3


async def test_a_call_at_most_once_is_written_before_it_is_made() -> None:
    """8.2 It takes two appends: its start, and what became of it."""

    @computation
    async def careful() -> Effectful[str]:
        yield Return((yield Office.once("a")))

    line, desk = Line(MemoryStore()), Desk("a")
    async with runtime(line, desk, workflows=[careful]) as one:
        run = await one.start(careful(), id="one")
        await desk.at("a").wait()
        assert len(line.appends_of("one")) == 1
        desk.let("a")
        await run.result(10)
    assert len(line.appends_of("one")) == 3


async def test_a_question_takes_an_append() -> None:
    """One where it is asked, with the inbox's row; its answer rides with what comes next. `idle=0` adds none."""
    for idle in (0, 10):
        line = Line(MemoryStore())
        async with runtime(line, idle=idle) as one:
            await one.start(asks("x"), id="one")
            assert (await stands(one, "one")).status == "suspended"
            (wait,) = await open_waits(one)
            await one.answer(wait, "yes")
            assert await one.get("one").result(10) == "x: yes"
        assert [len(item.opens) for item in line.appends] == [0, 1, 0, 0]
        assert [len(item.closes) for item in line.appends] == [0, 0, 1, 0]


async def test_durability_suspend_writes_where_a_run_stands_still() -> None:
    """8.2 Calls are not written, but for what must not be lost before one; a crash repeats those since then."""
    store, desk = MemoryStore(), Desk("after x")
    line = Line(store)
    async with dying(line, desk, *HANDLERS, workflows=WORKFLOWS, durability="suspend") as one:
        await (await one.start(plain("a", "b", "c"), id="plain")).result(10)
        assert len(line.appends_of("plain")) == 1
        await (await one.start(unstable("now"), id="unstable")).result(10)
        assert len(line.appends_of("unstable")) == 2
        await one.start(asks("x"), id="asks")
        (wait,) = await open_waits(one)
        assert len(line.appends_of("asks")) == 1
        await one.answer(wait, "yes")
        await desk.at("after x").wait()
    desk.let("after x")
    async with runtime(store, desk, *HANDLERS, workflows=WORKFLOWS, durability="suspend") as two:
        assert await two.get("asks").result(10) == "x: yes"
    assert desk.times["before x"] == 1
    assert desk.times["after x"] == 2
    desk.check_keys()


# -- stores that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["before", "after"])
@pytest.mark.parametrize("number", range(1, 6))
async def test_an_append_that_fails_is_made_again(number: int, how: Literal["before", "after"]) -> None:
    """Whether it was committed or not; the run goes on where it is, and no call is made again."""
    line, desk = Line(MemoryStore()), Desk()
    line.breaks_at(number, how)
    async with runtime(line, desk) as one:
        run = await one.start(asks("x"), id="one")
        (wait,) = await open_waits(one)
        await one.answer(wait, "no")
        assert await run.result(10) == "x: no"
        assert [sent.state for sent in await one.messages("one")] == ["used"]
    assert desk.times == {"before x": 1, "after x": 1}


async def test_an_outage_of_the_store_loses_nothing(connect: Connect) -> None:
    """While nothing can be read or written, calls end, and what came of them is written when the store is back."""
    line, desk = Line(connect()), Desk("a", "b")
    is_down = True

    async def fail(name: str, _args: tuple[Any, ...]) -> None:
        if is_down and name in METHODS:
            raise Cut

    async with runtime(line, desk, idle=0) as one:
        await one.start(side_by_side(["x"], ["a", "b"]), id="one")
        await open_waits(one)
        await one.start(asks("y"), id="two")
        await stands(one, "two")
        line.before = fail
        desk.let("a", "b")
        with pytest.raises(Cut):
            await one.start(plain("c"))
        await anyio.sleep(0.3)
        is_down = False
        for wait in await open_waits(one, count=2):
            await one.answer(wait, "yes")
        assert await one.get("one").result(20) == ["X YES", "A", "B"]
        assert await one.get("two").result(20) == "y: yes"
    assert set(desk.times.values()) == {1}


METHODS = ("create", "get", "load", "inbox", "append", "claim", "next_wake", "mail", "workers", "runs")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["before", "after"])
async def test_whatever_fails_once_the_runs_come_to_their_end(method: str, how: Literal["before", "after"]) -> None:
    """Each method of the store fails at its first calls, before or after it has committed: nothing is lost by that."""
    line, desk = Line(MemoryStore()), Desk()
    left = [2]

    async def fail(name: str, _args: tuple[Any, ...]) -> None:
        if name == method and left[0]:
            left[0] -= 1
            raise Cut

    async with runtime(line, desk, idle=0) as one:
        await one.start(asks("x"), id="asks")
        await one.start(plain("p"), id="paused", paused=True)
        await stands(one, "asks")
        setattr(line, how, fail)
        for _ in range(3):
            try:
                await one.start(plain("a", "b"), id="new")
            except Cut:
                continue
            break
        await one.release("paused")
        (wait,) = await open_waits(one, "asks")
        await one.answer(wait, "yes")
        with anyio.fail_after(2 * PATIENCE):
            for run, result in (("asks", "x: yes"), ("paused", "P"), ("new", "B")):
                while True:
                    try:
                        assert await one.get(run).result() == result
                    except Cut:
                        continue
                    break
    assert set(desk.times.values()) == {1}


async def test_a_start_that_seemed_to_fail_is_moved() -> None:
    """Where the run was committed all the same, the worker finds it: nobody has to start it again."""
    line, desk, left = Line(MemoryStore()), Desk(), [1]

    async def fail(name: str, _args: tuple[Any, ...]) -> None:
        if name == "create" and left[0]:
            left[0] -= 1
            raise Cut

    line.after = fail
    async with runtime(line, desk) as one:
        with pytest.raises(Cut):
            await one.start(plain("a"), id="one")
        assert await one.get("one").result(10) == "A"
        assert await (await one.start(plain("a"), id="one")).result(10) == "A"
    assert desk.times == {"a": 1}


@computation
async def drawn() -> Effectful[str]:
    yield Office.do(f"{(yield Fresh.uuid())}")
    yield Return((yield Office.do("held")))


async def test_a_start_that_is_made_again_at_once_is_the_same_run() -> None:
    """The run goes on from what was committed first: what it draws comes out the same in another worker."""
    store, desk, left = MemoryStore(), Desk("held"), [1]
    line = Line(store)

    async def fail(name: str, _args: tuple[Any, ...]) -> None:
        if name == "create" and left[0]:
            left[0] -= 1
            raise Cut

    line.after = fail
    async with dying(line, desk, workflows=[drawn]) as one:
        with pytest.raises(Cut):
            await one.start(drawn(), id="one")
        await one.start(drawn(), id="one")
        await desk.at("held").wait()
    desk.let("held")
    async with runtime(store, desk, workflows=[drawn]) as two:
        assert await two.get("one").result(10) == "HELD"


async def test_an_inbox_that_cannot_be_read_stops_nothing() -> None:
    """An answer is taken when it can be read; what is at work meanwhile goes on where it is."""
    line, desk, left = Line(MemoryStore()), Desk("slow"), [1]

    async def fail(name: str, _args: tuple[Any, ...]) -> None:
        if name == "inbox" and left[0]:
            left[0] -= 1
            raise Cut

    line.before = fail
    async with runtime(line, desk) as one:
        run = await one.start(side_by_side(["x"], ["slow"]), id="one")
        await desk.at("slow").wait()
        (wait,) = await open_waits(one)
        await one.answer(wait, "said")
        await desk.at("x said").wait()
        desk.let("slow")
        assert await run.result(10) == ["X SAID", "SLOW"]
    assert desk.times == {"slow": 1, "x said": 1}


async def test_a_start_that_is_cancelled_is_moved() -> None:
    """Whoever gives up waiting for a start leaves either no run, or one that moves."""
    line, desk = Line(MemoryStore()), Desk()

    async def give_up(name: str, _args: tuple[Any, ...]) -> None:
        if name == "create":
            scope.cancel()
            await anyio.lowlevel.checkpoint()

    line.after = give_up
    async with runtime(line, desk) as one:
        with anyio.CancelScope() as scope:
            await one.start(plain("a"), id="one")
        assert await one.get("one").result(10) == "A"


async def test_a_runtime_whose_store_is_down_can_be_left() -> None:
    """It waits for nobody: what it has is taken over, as from a worker that died."""
    store, desk = MemoryStore(), Desk("a")
    line = Line(store)

    async def fail(name: str, _args: tuple[Any, ...]) -> None:
        raise Cut

    with anyio.fail_after(PATIENCE):
        async with runtime(line, desk) as one:
            await one.start(side_by_side(["x", "y"], ["a", "b"]), id="one")
            await open_waits(one, count=2)
            line.before = fail
            desk.let("a")
            await anyio.sleep(0.15)
    assert (await stored(store, "one")).owner is not None
    async with runtime(store, desk) as two:
        for wait in await open_waits(two, count=2):
            await two.answer(wait, "yes")
        assert await two.get("one").result(10) == ["X YES", "Y YES", "A", "B"]


async def test_the_clock_of_the_runs_is_that_of_their_handlers() -> None:
    """What is written goes by it."""
    clock = VirtualClock()
    async with runtime(MemoryStore(), Desk(), clock.handler()) as one:
        run = await one.start(comment("x"))
        view = await stands(one, run.id)
        clock.advance(timedelta(hours=1))
        assert view.created == view.waits[0].opened == clock.now - timedelta(hours=1)
        await one.answer(view.waits[0], "said")
        await run.result(10)
        assert (await run.view()).updated == clock.now
        assert (await one.messages(run.id))[0].at == clock.now
