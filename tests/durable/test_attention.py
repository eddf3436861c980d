"""What the code at hand cannot go on with needs attention: never failed, never tried over and over, never lost."""

import logging
from collections.abc import Callable
from typing import Any, Protocol

import anyio
import pytest

from skuld_async import Effectful, Handler, Port, Return, Yield, computation, current_call, operation
from skuld_async.durable import Runtime, StuckRunError
from skuld_async.durable.store import Store
from skuld_async.stores.memory import MemoryStore

from .parts import (
    Comment,
    Desk,
    Line,
    Office,
    asks,
    becomes,
    comment,
    dying,
    fates,
    open_waits,
    plain,
    put_away,
    runtime,
    stands,
)

Connect = Callable[[], Store]


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """What is logged here is what is expected."""
    caplog.set_level(logging.CRITICAL, "skuld_async.runtime")


def job(*whats: str, ask: bool = True, returns: Any = None) -> Any:
    """One version of a workflow: these calls, and a question behind them."""

    @computation(name="job")
    async def body(number: int) -> Effectful[Any]:
        for what in whats:
            yield Office.do(what)
        if ask:
            yield Comment("x")
        yield Office.do("end")
        yield Return(returns)

    return body


async def _parked(one: Runtime, run: str, word: str, name: str) -> None:
    """A run needs attention for this reason, and no worker has it or takes it."""
    view = await becomes(one, run, "needs_attention")
    assert (view.attention, view.is_settled, view.has_ended) == (word, True, False)
    assert view.problem is not None
    assert view.problem.type.endswith(f":{name}"), view.problem
    with pytest.raises(StuckRunError, match="release"):
        await one.get(run).result(10)
    await put_away(one)
    record = await one.store.get(run)
    assert record is not None
    assert (record.owner, record.wake) == (None, None)


async def _asked(store: Store, workflow: Any, desk: Desk, *handlers: Handler) -> None:
    async with runtime(store, desk, *handlers, workflows=[workflow]) as one:
        await one.start(workflow(1), id="one")
        assert (await stands(one, "one")).status == "suspended"


async def _finished(store: Store, workflow: Any, desk: Desk, *handlers: Handler) -> None:
    async with runtime(store, desk, *handlers, workflows=[workflow]) as one:
        assert await one.release("one")
        if (await one.get("one").settled(10)).status == "suspended":
            (wait,) = await open_waits(one)
            await one.answer(wait, "said")
        assert await one.get("one").result(10) is None


async def test_a_divergence_needs_attention(connect: Connect) -> None:
    """Nothing is performed, the log stays, and the right code goes on where it was."""
    desk = Desk()
    await _asked(connect(), job("a", "b"), desk)
    async with runtime(connect(), desk, workflows=[job("a", "c")]) as two:
        await two.deposit(b'"said"', to=(await open_waits(two))[0])
        await _parked(two, "one", "divergence", "DivergenceError")
        assert desk.done == ["a", "b"]
        assert len((await two.waits()).items) == 1  # and may be answered all the while
        await fates(two, "one", "pending")
    await _finished(connect(), job("a", "b"), desk)
    assert desk.done == ["a", "b", "end"]


async def test_an_answer_to_a_run_that_needs_attention_waits(connect: Connect) -> None:
    """It is accepted, does not wake the run, and is there when it is released."""
    desk = Desk()
    await _asked(connect(), job("a"), desk)
    async with runtime(connect(), desk, workflows=[job("b")]) as two:
        (wait,) = await open_waits(two)
        await two.answer(wait, "said")
        await _parked(two, "one", "divergence", "DivergenceError")
    await _finished(connect(), job("a"), desk)
    assert desk.done == ["a", "end"]


async def test_a_missing_handler_needs_attention(connect: Connect) -> None:
    """What was performed before it is kept; with the handler the run goes on from there."""
    desk = Desk()

    class Other(Port, Protocol):
        @operation
        async def act(self, number: int) -> None: ...

    class Actor:
        async def act(self, number: int) -> None:
            desk.keys.append((f"act {number}", current_call().key))

    @computation(name="job")
    async def body(number: int) -> Effectful[None]:
        yield Office.do("a")
        yield Other.act(number)

    async with runtime(connect(), desk, workflows=[body]) as one:
        await one.start(body(1), id="one")
        await _parked(one, "one", "no-handler", "UnhandledEffectError")
    await _finished(connect(), body, desk, Other.handler(Actor()))
    assert desk.keys == [("a", "one/0/1"), ("act 1", "one/0/2")]


async def test_an_undecodable_value_needs_attention(connect: Connect) -> None:
    """A result in the log that today's type cannot hold is no divergence and no failure."""

    class Old(Port, Protocol):
        @operation(sig="tests:read")
        async def read(self) -> str: ...

    class New(Port, Protocol):
        @operation(sig="tests:read")
        async def read(self) -> int: ...

    class Reader:
        async def read(self) -> Any:
            return "text"

    def reads(contract: Any) -> Any:
        @computation(name="job")
        async def body(number: int) -> Effectful[None]:
            yield contract.read()
            yield Comment("x")

        return body

    await _asked(connect(), reads(Old), Desk(), Old.handler(Reader()))
    async with runtime(connect(), Desk(), New.handler(Reader()), workflows=[reads(New)]) as two:
        (wait,) = await open_waits(two)
        await two.answer(wait, "said")
        await _parked(two, "one", "undecodable", "UndecodableError")
    await _finished(connect(), reads(Old), Desk(), Old.handler(Reader()))


async def test_undecodable_arguments_need_attention(connect: Connect) -> None:
    """Those of a workflow whose parameters have changed; its questions stay, and the old code goes on."""

    @computation(name="job")
    async def other(number: list[str]) -> Effectful[None]:
        yield Comment("x")

    desk = Desk()
    await _asked(connect(), job(), desk)
    async with runtime(connect(), desk, workflows=[other]) as two:
        (wait,) = await open_waits(two)
        await two.answer(wait, "said")
        await _parked(two, "one", "undecodable", "DeclarationError")
    await _finished(connect(), job(), desk)


async def test_an_answer_that_the_body_can_no_longer_take_needs_attention(connect: Connect) -> None:
    """It was accepted for the type that the question had; with another type nothing is consumed."""

    class Before(Yield[str], frozen=True):
        __sig__ = "tests:Before"

    @computation(name="job")
    async def old(number: int) -> Effectful[None]:
        yield Before()

    await _asked(connect(), old, Desk())
    async with runtime(connect(), workflows=[plain]) as other:
        (wait,) = await open_waits(other)
        await other.answer(wait, "text")
    Before.__sig__ = "tests:gone"

    class After(Yield[int], frozen=True):
        __sig__ = "tests:Before"

    @computation(name="job")
    async def new(number: int) -> Effectful[None]:
        yield After()

    async with runtime(connect(), workflows=[new]) as two:
        await _parked(two, "one", "answer", "InvalidAnswerError")
    After.__sig__, Before.__sig__ = "tests:gone too", "tests:Before"
    await _finished(connect(), old, Desk())


async def test_a_result_that_no_log_can_hold_needs_attention() -> None:
    """The call before it is not made again when the code has been put right."""
    store, desk = MemoryStore(), Desk()
    async with runtime(store, desk, workflows=[job("a", ask=False, returns=object())]) as one:
        workflow = one.definition("job")
        await one.start(workflow(1), id="one")
        await _parked(one, "one", "unencodable", "UnencodableError")
    await _finished(store, job("a", ask=False), desk)
    assert desk.done == ["a", "end"]


async def test_a_lifetime_that_cannot_begin_needs_attention() -> None:
    """A handler whose scope fails to open: nothing was performed."""
    store, desk = MemoryStore(), Desk()

    class Pool(Handler):
        label = "pool"

        def install(self) -> Any:
            raise ConnectionError("no database")

    async with runtime(store, desk, Pool(), workflows=[job("a", ask=False)]) as one:
        await one.start(one.definition("job")(1), id="one")
        await _parked(one, "one", "error", "ConnectionError")
        assert desk.done == []
    await _finished(store, job("a", ask=False), desk)


async def test_a_damaged_log_needs_attention() -> None:
    """Bytes that are no log are no run to go on with, and no reason to stop the worker."""
    store = MemoryStore()
    await _asked(store, job(), Desk())
    good, store._runs["one"].chunks = store._runs["one"].chunks, [b"[0,[]"]
    async with runtime(store, workflows=[job(), plain]) as one:
        (wait,) = await open_waits(one)
        await one.answer(wait, "said")
        await _parked(one, "one", "damaged", "LogDecodeError")
        assert await (await one.start(plain("a"))).result(10) == "A"
    store._runs["one"].chunks = good
    await _finished(store, job(), Desk())


async def test_a_workflow_that_no_worker_knows_needs_attention(connect: Connect) -> None:
    """It is parked, in peace where a worker that knows it lives; one that begins and knows it takes it again."""
    desk, store = Desk("a"), connect()
    async with dying(Line(store), desk, workflows=[plain]) as one:
        await one.start(plain("a", "b"), id="one")
        await desk.at("a").wait()
        async with runtime(connect(), Desk(), workflows=[asks]) as other:
            await anyio.sleep(0.3)
            assert (await other.get("one").view()).status == "running"
    desk.let("a")
    async with runtime(connect(), Desk(), workflows=[asks]) as other:
        view = await becomes(other, "one", "needs_attention")
        assert view.attention == "unknown-workflow"
        assert view.problem is not None
        assert plain.name in view.problem.message
    async with runtime(connect(), desk, workflows=[asks, plain]) as two:
        assert await two.get("one").result(10) == "B"
    assert desk.times == {"a": 2, "b": 1}


async def test_a_worker_leaves_what_it_does_not_know_to_others(connect: Connect) -> None:
    """A paused run that is released by one that does not know its workflow is taken by the one that does."""
    async with (
        runtime(connect(), Desk(), workflows=[plain]) as one,
        runtime(connect(), Desk(), workflows=[comment]) as two,
    ):
        await one.start(plain("a"), id="one", paused=True)
        await two.release("one")
        assert await one.get("one").result(10) == "A"
