"""5.10 under a log: lifetimes are entered with the scope of their handlers and left on every way out."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest

from skuld_async import (
    Handler,
    LifetimeError,
    Log,
    UnhandledEffectError,
    computation,
    lifetime,
    open_session,
    resume,
    start,
)
from skuld_async._computation import Effectful
from skuld_async._effect import Return

from .parts import (
    Approval,
    Call,
    Desk,
    approval,
    calls,
    cancelled,
    completed,
    failed,
    host_cancelled,
    idles,
    states,
    suspended,
)


class Pool:
    """A pool of connections: opening and closing it await, and either may fail."""

    def __init__(self, desk: Desk, *, fails: str = "") -> None:
        self.desk = desk
        self.fails = fails
        self.notes: list[str] = []

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Sequence[Handler]]:
        await anyio.lowlevel.checkpoint()
        if self.fails == "open":
            message = "no connection"
            raise ConnectionError(message)
        self.notes.append("open")
        try:
            yield self.desk.handlers
        finally:
            await anyio.sleep(0.001)
            await anyio.lowlevel.checkpoint()
            self.notes.append("closed")
        if self.fails == "close":
            message = "connection lost"
            raise ConnectionError(message)

    @property
    def handler(self) -> Handler:
        return lifetime(self.opened)


WHOLE = ["open", "closed"]


@computation
async def breaks() -> Effectful[str]:
    yield Call("a")
    message = "broken"
    raise ValueError(message)


async def test_left_at_completion_failure_and_suspension() -> None:
    """5.10 However `start` and `resume` end, the lifetime is over before they return; each of them enters its own."""
    pool = Pool(Desk())
    completed(await start(calls("a"), pool.handler))
    assert pool.notes == WHOLE
    failed(await start(breaks(), pool.handler))
    assert pool.notes == WHOLE * 2
    log = suspended(await start(approval("lamp"), pool.handler)).log
    assert pool.notes == WHOLE * 3
    completed(await resume(approval("lamp"), log, pool.handler, answer="approved"))
    assert pool.notes == WHOLE * 4


async def test_left_at_an_error_of_the_deployment() -> None:
    """5.10 The same where `start` raises."""
    pool = Pool(Desk())
    with pytest.raises(UnhandledEffectError):
        await start(
            approval("lamp").handle(Approval.always("approved")).ensure(calls()), *_only_cleanup(), pool_of(pool)
        )
    assert pool.notes == WHOLE


def _only_cleanup() -> list[Handler]:
    return []


def pool_of(pool: Pool) -> Handler:
    """The lifetime of *pool*, of which no handler is used."""

    @asynccontextmanager
    async def nothing() -> AsyncGenerator[list[Handler]]:
        async with pool.opened():
            yield []

    return lifetime(nothing)


@pytest.mark.parametrize("where", ["in-a-call", "in-an-await-of-the-body"])
async def test_left_in_peace_when_the_host_cancels(where: str) -> None:
    """5.10, 7.7 A host cancel leaves the lifetime with its awaits: a connection is closed, not dropped."""
    desk = Desk()
    pool = Pool(desk)
    comp, when = (calls("hang"), desk.at("hang")) if where == "in-a-call" else (idles(), desk.at("before"))
    await host_cancelled(comp, pool.handler, when=when)
    assert pool.notes == WHOLE


async def test_left_in_peace_when_the_run_is_cancelled() -> None:
    """5.10, 7.7 The same under a run cancel; the cleanup of the run still has its handlers."""
    desk = Desk()
    pool = Pool(desk)
    async with open_session(idles().ensure(Call("cleanup")), pool.handler) as session:
        await desk.at("before").wait()
        cancelled(await session.cancel())
        assert pool.notes == WHOLE
    assert desk.arrived == ["before", "cleanup"]


async def test_an_inner_scope_is_left_at_a_suspension_and_entered_again() -> None:
    """5.10, 7.6 The lifetime of an inner scope is left at a cold suspension, and the resume enters a fresh one."""
    outer, inner = Pool(Desk()), Pool(Desk())

    @computation
    async def scoped() -> Effectful[str]:
        value = yield approval("lamp").handle(inner.handler)
        yield Call("outside")
        yield Return(value)

    log = suspended(await start(scoped(), outer.handler)).log
    assert (outer.notes, inner.notes) == (WHOLE, WHOLE)
    assert completed(await resume(scoped(), log, outer.handler, answer="approved")).value == "VALIDATE LAMP approved"
    assert (outer.notes, inner.notes) == (WHOLE * 2, WHOLE * 2)
    assert outer.desk.arrived == ["outside"]
    assert inner.desk.arrived == ["validate lamp", "execute lamp"]


async def test_one_that_cannot_be_opened() -> None:
    """5.10 Its error comes out as it is, those before it are closed, nothing was performed, the log goes on later."""
    first, second = Pool(Desk()), Pool(Desk(), fails="open")
    into = Log()
    with pytest.raises(ConnectionError, match="no connection"):
        await start(calls("a"), first.handler, second.handler, into=into)
    assert first.notes == WHOLE
    assert second.notes == []
    assert states(into) == []
    assert completed(await resume(calls("a"), into, first.handler)).value == "A"


async def test_one_that_cannot_be_opened_leaves_the_given_log_alone() -> None:
    """5.10 A resume whose handlers cannot be opened consumes no answer."""
    desk = Desk()
    log = suspended(await start(approval("lamp"), *desk.handlers)).log
    before = log.to_json()
    with pytest.raises(ConnectionError):
        await resume(approval("lamp"), log, Pool(desk, fails="open").handler, answer="approved")
    assert log.to_json() == before
    completed(await resume(approval("lamp"), log, *desk.handlers, answer="approved"))


@pytest.mark.parametrize("ends", ["completed", "suspended", "failed"])
async def test_one_that_cannot_be_closed(ends: str) -> None:
    """5.10 An error on the way out does not pass in silence, whatever the outcome; it carries all that was done."""
    pool = Pool(Desk(), fails="close")
    comp: Any = {"completed": calls("a"), "suspended": approval("lamp"), "failed": breaks()}[ends]
    with pytest.raises(LifetimeError, match=f"is {ends}, but leaving .*connection lost") as caught:
        await start(comp, pool.handler)
    assert isinstance(caught.value.__cause__, ConnectionError)
    log = caught.value.log
    assert log.header.status == ends
    assert log.entries[0].state == "executed"
    desk = Desk()
    outcome = await resume(comp, log, *desk.handlers)
    assert outcome.log.header.status == ends
    assert desk.arrived == []


async def test_one_that_cannot_be_closed_after_an_error_of_the_deployment() -> None:
    """5.10 The error of the deployment comes out, with its log; the other one is its note."""
    pool = Pool(Desk(), fails="close")
    with pytest.raises(UnhandledEffectError) as caught:
        await start(approval("lamp").ensure(calls()), pool_of(pool))
    assert caught.value.log.header.status == "running"
    assert any("connection lost" in note for note in caught.value.__notes__)


async def test_a_host_cancel_while_one_is_being_opened() -> None:
    """7.7 Opening is cut short, nothing was performed, the caller sees its cancellation."""
    entered = anyio.Event()
    notes: list[str] = []

    @asynccontextmanager
    async def slow() -> AsyncGenerator[Handler]:
        entered.set()
        try:
            await anyio.sleep_forever()
        finally:
            notes.append("gave up")
        yield Call.always("never")

    log = await host_cancelled(calls("a"), lifetime(slow), when=entered)
    assert notes == ["gave up"]
    assert states(log) == []


async def test_a_host_cancel_while_one_is_being_closed() -> None:
    """7.7 Closing is cut short as the host's own would be; the run has ended, and the log says so."""
    entered = anyio.Event()

    @asynccontextmanager
    async def slow() -> AsyncGenerator[Handler]:
        yield Call.always("done")
        entered.set()
        await anyio.sleep_forever()

    log = await host_cancelled(calls("a"), lifetime(slow), when=entered)
    assert log.header.status == "completed"


async def test_lifetimes_of_one_factory_are_made_for_each_run() -> None:
    """5.10 A handler is a recipe: two runs at the same time have each its own."""
    entered: list[int] = []

    @asynccontextmanager
    async def numbered() -> AsyncGenerator[Handler]:
        number = len(entered)
        entered.append(number)
        yield Call.handled_by(lambda effect: f"{effect.name}{number}")

    handler: Handler = lifetime(numbered)
    assert isinstance(numbered(), AbstractAsyncContextManager)
    values: list[str] = []

    async def one() -> None:
        values.append(completed(await start(calls("a"), handler)).value)

    async with anyio.create_task_group() as group:
        group.start_soon(one)
        group.start_soon(one)
    assert sorted(values) == ["a0", "a1"]
