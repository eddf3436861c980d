"""A run is cancelled for good: recorded, then delivered, with its cleanup; wherever it is, and whoever has it."""

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from skuld_async import (
    Clock,
    Effectful,
    NotWaitingError,
    Parallel,
    Return,
    RunCancelledError,
    bracket,
    computation,
)
from skuld_async.durable import Runtime
from skuld_async.durable.records import Append
from skuld_async.durable.store import Store
from skuld_async.log.chunks import log_of
from skuld_async.stores.memory import MemoryStore
from skuld_async.testing import VirtualClock

from .parts import (
    Comment,
    Desk,
    Line,
    Office,
    becomes,
    comment,
    dying,
    fates,
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


@computation
async def held(kind: str) -> Effectful[str]:
    """Something acquired, something inside it that waits, something released."""
    yield Return((yield bracket(Office.do("acquire"), lambda what: inside(kind), release)))


@computation
async def inside(kind: str) -> Effectful[str]:
    match kind:
        case "asks":
            yield Return((yield Comment("x")))
        case "sleeps":
            yield Clock.sleep(timedelta(days=1))
        case "calls":
            yield Return((yield Office.do("slow")))
        case _:
            yield Return((yield Parallel.all(comment("x"), comment("y"), plain("slow")))[0])


@computation
async def release(what: str) -> Effectful[None]:
    yield Office.do(f"release {what}")
    yield Office.do("tell")


WORKFLOWS: list[Any] = [held, plain, comment, side_by_side]
KINDS = ["asks", "sleeps", "calls", "all"]


async def _begin(one: Runtime, desk: Desk, kind: str) -> None:
    """Let a run come to where it waits."""
    await one.start(held(kind), id="one")
    if kind in ("asks", "sleeps"):
        await stands(one, "one")
    if kind in ("calls", "all"):
        await desk.at("slow").wait()
    if kind == "all":
        await open_waits(one, count=2)


def _check(desk: Desk) -> None:
    assert {what: count for what, count in desk.times.items() if what != "slow"} == {
        "acquire": 1,
        "release ACQUIRE": 1,
        "tell": 1,
    }
    desk.check_keys()


@pytest.mark.parametrize("idle", [0, 10])
@pytest.mark.parametrize("kind", KINDS)
async def test_a_cancelled_run_does_its_cleanup(connect: Connect, kind: str, idle: float) -> None:
    """Whether it waits for an answer, a time or a call, in memory or not; what was asked is asked no more."""
    desk, clock = Desk("slow"), VirtualClock()
    async with runtime(connect(), desk, clock.handler(), workflows=WORKFLOWS, idle=idle) as one:
        await _begin(one, desk, kind)
        waits = (await one.waits()).items
        assert await one.cancel("one", "enough", by="anna")
        assert (await becomes(one, "one", "cancelled")).has_ended
        with pytest.raises(RunCancelledError):
            await one.get("one").result(10)
        (sent,) = await one.messages("one")
        assert (sent.kind, sent.body, sent.by, sent.state) == ("cancel", "enough", "anna", "used")
        assert (await one.waits()).items == []
        for wait in waits:
            with pytest.raises(NotWaitingError):
                await one.answer(wait, "late")
        header = (await one.get("one").log()).header
        assert header.cancelled
        assert header.cancelled.reason == "enough"
    _check(desk)


@pytest.mark.parametrize("kind", KINDS)
async def test_another_worker_may_cancel(connect: Connect, kind: str) -> None:
    """The one that has the run hears of it."""
    desk, clock = Desk("slow"), VirtualClock()
    async with (
        runtime(connect(), desk, clock.handler(), workflows=WORKFLOWS) as one,
        runtime(connect(), Desk(), clock.handler(), workflows=[plain]) as two,
    ):
        await _begin(one, desk, kind)
        assert await two.cancel("one")
        await becomes(two, "one", "cancelled")
    _check(desk)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("number", range(1, 6))
async def test_a_worker_that_dies_in_the_cleanup_is_replaced(kind: str, number: int) -> None:
    """At whichever append; the next one does what is left, and repeats at most the call that was not written."""
    desk, clock, store = Desk("slow"), VirtualClock(), MemoryStore()
    line = Line(store)
    async with dying(line, desk, clock.handler(), workflows=WORKFLOWS) as one:
        await _begin(one, desk, kind)
        line.breaks_at(number, "before", dies=True)
        await one.cancel("one", "enough")
        await until(one, partial(_is_cut_or_cancelled, line))
    async with runtime(store, desk, clock.handler(), workflows=WORKFLOWS) as two:
        await becomes(two, "one", "cancelled")
    times = desk.times
    assert times["acquire"] == 1
    assert times["release ACQUIRE"] + times["tell"] <= 3
    desk.check_keys()


async def _is_cut_or_cancelled(line: Line) -> bool:
    record = await line.store.get("one")
    return line.cut.is_set() or (record is not None and record.status == "cancelled")


async def test_a_cancel_is_recorded_before_its_cleanup() -> None:
    """The first call of the cleanup finds it in the store: whoever takes over cancels the run at the same place."""
    store, desk = MemoryStore(), Desk("slow", "release ACQUIRE")
    async with runtime(store, desk, workflows=WORKFLOWS) as one:
        await _begin(one, desk, "calls")
        await one.cancel("one")
        await desk.at("release ACQUIRE").wait()
        chunks, _ = await store.load("one")
        assert log_of(chunks)[0].header.cancelled
        desk.let("release ACQUIRE")
        await becomes(one, "one", "cancelled")


async def test_a_paused_run_is_cancelled_before_its_first_step(connect: Connect) -> None:
    """It needs no release, and nothing is performed."""
    desk = Desk()
    async with runtime(connect(), desk, workflows=WORKFLOWS) as one:
        await one.start(plain("a"), id="one", paused=True)
        assert await one.cancel("one")
        await becomes(one, "one", "cancelled")
        assert not await one.release("one")
    assert desk.done == []


async def test_an_ended_run_cannot_be_cancelled() -> None:
    """It is told so, and nothing changes; a run is cancelled once."""
    async with runtime(MemoryStore(), workflows=WORKFLOWS) as one:
        run = await one.start(plain("a"))
        await run.result(10)
        assert not await run.cancel()
        assert (await run.view()).status == "completed"
        asked = await one.start(comment("x"), id="asks")
        await stands(one, "asks")
        assert await asked.cancel("first")
        await asked.cancel("second")
        await becomes(one, "asks", "cancelled")
        assert [sent.body for sent in await one.messages("asks")] == ["first"]
        assert not await asked.cancel("third")


async def test_a_run_that_ends_first_is_not_cancelled() -> None:
    """The cancel is then told that it was of no use."""
    store, desk = MemoryStore(), Desk("a")
    line = Line(store)
    async with runtime(line, desk, workflows=WORKFLOWS) as one:
        run = await one.start(plain("a"), id="one")
        await desk.at("a").wait()

        async def cancel(name: str, args: tuple[Append]) -> None:
            if name == "append" and args[0].chunk and args[0].status is None:
                await store.cancel("one", "late", "", 0)

        line.before = cancel
        desk.let("a")
        assert (await run.settled(10)).has_ended
        (sent,) = await one.messages("one")
        status = (await run.view()).status
        assert (status, sent.state) in (("completed", "refused"), ("completed", "pending"), ("cancelled", "used"))


async def test_an_answer_that_was_accepted_before_a_cancel_stays() -> None:
    """Both are there when the run is taken up: it gets its answer, and is cancelled then."""
    store, desk = MemoryStore(), Desk()
    async with runtime(store, desk, workflows=WORKFLOWS, idle=0) as one:
        await one.start(side_by_side(["x", "y"], []), id="one")
        wait, _ = await open_waits(one, count=2)
        await put_away(one)
    async with runtime(store, Desk(), workflows=[plain]) as other:
        await other.answer(wait, "said")
        await other.cancel("one")
    async with runtime(store, desk, workflows=WORKFLOWS) as two:
        await becomes(two, "one", "cancelled")
        await fates(two, "one", "used", "used")
        log = await two.get("one").log()
    asked = {entry.id: entry.state for entry in log.entries if entry.sig == Comment.__sig__}
    assert sorted(asked.values()) == ["discarded", "executed"]
    assert asked[wait.id] == "executed"
    assert (await stored(store, "one")).recoveries == 0


async def test_a_cancel_of_what_the_code_cannot_go_on_with_is_not_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The run needs attention first; with the right code it is released, and cancelled."""

    @computation(name="job")
    async def before() -> Effectful[str]:
        yield Office.do("a")
        yield Return((yield comment("x").ensure(plain("cleanup"))))

    @computation(name="job")
    async def after() -> Effectful[str]:
        yield Office.do("b")
        yield Return("")

    store, desk = MemoryStore(), Desk()
    async with runtime(store, desk, workflows=[before]) as one:
        await one.start(before(), id="one")
        await stands(one, "one")
    caplog.set_level("CRITICAL")
    async with runtime(store, desk, workflows=[after]) as two:
        assert await two.cancel("one")
        assert (await becomes(two, "one", "needs_attention")).attention == "divergence"
    async with runtime(store, desk, workflows=[before]) as three:
        await three.release("one")
        await becomes(three, "one", "cancelled")
        await fates(three, "one", "used")
    assert desk.done == ["a", "cleanup"]
