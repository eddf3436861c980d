"""Promise 8.2: when whoever stores the log is asked and told, while external effects are performed."""

from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
from msgspec import UNSET

from skuld_async import (
    Clock,
    Computation,
    Effect,
    Effectful,
    Handler,
    Log,
    Retry,
    Return,
    State,
    Transaction,
    computation,
    fork,
    run,
    transact,
)
from skuld_async._signals import Suspend
from skuld_async.log.entry import Entry
from skuld_async.log.identity import identify
from skuld_async.log.log import copy_of
from skuld_async.log.session import Session
from tests.suspension.parts import cancelled, completed, failed, stored, suspended

total = State("total", int)


class Call(Effect[str], frozen=True):
    name: str


class Once(Effect[str], frozen=True):
    __at_most_once__ = True


class Book:
    """Keeps the log, as somebody does who stores it; writes down what happens in which order."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.logs: list[Log] = []
        self.log = Log()
        self.wait: anyio.Event | None = None
        self.waits = anyio.Event()
        self.refuses = ""

    async def before_call(self, *, started: bool) -> None:
        await anyio.lowlevel.checkpoint()
        self.said.append(f"before{' once' if started else ''}")
        if self.refuses == "before":
            raise Suspend

    async def settled(self, entry: Entry) -> None:
        self.waits.set()
        if self.wait is not None:
            await self.wait.wait()
        await anyio.lowlevel.checkpoint()
        self.said.append(f"{entry.id} {entry.state}")
        self.logs.append(stored(self.log))
        if self.refuses == "settled":
            raise Suspend

    async def call(self, effect: Call) -> str:
        await anyio.lowlevel.checkpoint()
        self.said.append(f"call {effect.name}")
        if effect.name == "bad":
            raise ValueError(effect.name)
        if effect.name == "hang":
            await anyio.sleep_forever()
        return effect.name

    def call_at_once(self, effect: Call) -> str:
        self.said.append(f"call {effect.name}")
        return effect.name

    @property
    def handlers(self) -> tuple[Handler, ...]:
        return (
            Call.handled_by(self.call),
            Once.always("once"),
            total.handler(0),
            Transaction.handler(partial(nullcontext)),
        )


def session_of(comp: Computation[Any], keeper: Book, *handlers: Handler, log: Log | None = None) -> Session[Any]:
    """A session whose log *keeper* keeps: of a new run, or one that goes on from *log*."""
    keeper.log = Log() if log is None else copy_of(log)
    if log is None:
        keeper.log.header.run, keeper.log.header.seed = "run", "seed"
        identify(keeper.log, comp)
    return Session(comp, keeper.log, handlers or keeper.handlers, {}, keeper=keeper)


@computation
async def calling(names: list[str]) -> Effectful[list[str]]:
    answers: list[str] = []
    for name in names:
        try:
            answer = yield Call(name)
        except ValueError:
            answer = "failed"
        answers.append(answer)
    yield Return(answers)


async def test_asked_before_and_told_after() -> None:
    """8.2 The keeper is asked before each external call, and control comes back when it has kept what was settled."""
    keeper = Book()
    async with session_of(calling(["a", "bad", "b"]), keeper) as session:
        assert completed(await session.outcome()).value == ["a", "failed", "b"]
    assert keeper.said == [
        *("before", "call a", "0/1 executed"),
        *("before", "call bad", "0/2 discarded"),
        *("before", "call b", "0/3 executed"),
    ]
    assert [len(log.entries) for log in keeper.logs] == [1, 2, 3]


async def test_the_body_goes_on_when_it_is_kept() -> None:
    """8.2 Until what was settled is kept, the body does not go on."""
    keeper = Book()
    keeper.wait = anyio.Event()
    async with session_of(calling(["a", "b"]), keeper) as session:
        await keeper.waits.wait()
        await anyio.wait_all_tasks_blocked()
        assert keeper.said == ["before", "call a"]
        keeper.wait.set()
        completed(await session.outcome())


async def test_sync_handlers() -> None:
    """8.2 The call of a sync handler is kept like any other; without a keeper it stays a sync one."""
    keeper = Book()
    async with session_of(calling(["a"]), keeper, Call.handled_by(keeper.call_at_once)) as session:
        completed(await session.outcome())
    assert keeper.said == ["before", "call a", "0/1 executed"]


async def test_local_and_recorded_effects_ride_along() -> None:
    """8.2 For local and recorded effects nobody is asked; what would be read anew is noted as such."""

    @computation
    async def local() -> Effectful[None]:
        yield total.modify(lambda value: value + 1)
        assert not session.book.is_unstable
        yield Clock.now()
        assert session.book.is_unstable
        yield Call("a")

    keeper = Book()
    session = session_of(local(), keeper)
    async with session:
        completed(await session.outcome())
    assert keeper.said == ["before", "call a", "0/3 executed"]


async def test_what_is_made_at_most_once() -> None:
    """8.2 Before a call that is made at most once its `started` is kept; where it was lost, that is kept too."""

    @computation
    async def once() -> Effectful[str]:
        answer = yield Once()
        yield Return(answer)

    keeper = Book()
    keeper.refuses = "before"
    async with session_of(once(), keeper) as session:
        suspended(await session.outcome())
    assert keeper.said == ["before once"]

    again = Book()
    async with session_of(once(), again, log=stored(keeper.log)) as session:
        failed(await session.outcome())
    assert again.said == ["0/1 discarded"]


async def test_each_failed_attempt() -> None:
    """8.6 A failed attempt is kept before the next one is waited for."""
    keeper = Book()
    policy = Retry(2, timedelta())

    @computation
    async def retries() -> Effectful[None]:
        yield Call("bad").retried(policy)

    async with session_of(retries(), keeper) as session:
        failed(await session.outcome())
    assert keeper.said == ["before", "call bad", "0/1 started", "before", "call bad", "0/1 discarded"]
    assert [len(log.entries[0].attempts) for log in keeper.logs] == [1, 1]


async def test_in_a_transaction_nobody_is_asked() -> None:
    """8.2 What is done in a transaction is kept with its commit, and not before."""
    keeper = Book()
    async with session_of(transact(calling(["a", "bad"])), keeper) as session:
        completed(await session.outcome())
    assert keeper.said == ["call a", "call bad", "0/1 executed"]
    assert [entry.state for entry in keeper.logs[-1].entries] == ["executed", "executed", "discarded"]


async def test_a_keeper_that_stops_the_run() -> None:
    """8.3 A keeper that has lost the run stops it: before the call, which is not made, or behind the one that was."""
    keeper = Book()
    keeper.refuses = "before"
    async with session_of(calling(["a", "b"]), keeper) as session:
        suspended(await session.outcome())
    assert keeper.said == ["before"]
    assert [entry.state for entry in keeper.log.entries] == ["started"]

    keeper = Book()
    keeper.refuses = "settled"
    async with session_of(calling(["a", "b"]), keeper) as session:
        suspended(await session.outcome())
    assert keeper.said == ["before", "call a", "0/1 executed"]


async def test_a_scope_of_the_body_does_not_cut_it_off() -> None:
    """6.8 A scope of the body that fires while its answer is kept comes too late: the body has the answer."""

    @computation
    async def hurried() -> Effectful[str]:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            answer = yield Call("a")
            yield Return(answer)
            return
        yield Return("cut off")

    scopes: list[anyio.CancelScope] = []
    keeper = Book()
    keeper.wait = anyio.Event()
    async with session_of(hurried(), keeper) as session:
        await keeper.waits.wait()
        scopes[0].cancel()
        await anyio.wait_all_tasks_blocked()
        keeper.wait.set()
        assert completed(await session.outcome()).value == "a"


async def test_what_a_scope_cut_off_is_kept() -> None:
    """6.8 A call that a scope of the body cut off is settled, and kept before the body goes on."""

    @computation
    async def hurried() -> Effectful[str]:
        with anyio.move_on_after(0.01):
            yield Call("hang")
        yield Return("cut off")

    keeper = Book()
    async with session_of(hurried(), keeper) as session:
        assert completed(await session.outcome()).value == "cut off"
    assert keeper.said == ["before", "call hang", "0/1 discarded"]


async def test_a_run_that_is_cancelled_while_it_is_kept() -> None:
    """7.7 A run cancel that comes while an answer is kept takes effect behind it, and does so again on replay."""
    keeper = Book()
    keeper.wait = anyio.Event()
    comp = calling(["a", "b"])
    async with session_of(comp, keeper) as session, anyio.create_task_group() as group:
        await keeper.waits.wait()
        group.start_soon(session.cancel)
        await anyio.wait_all_tasks_blocked()
        keeper.wait.set()
        outcome = cancelled(await session.outcome())
    assert keeper.said == ["before", "call a", "0/1 executed"]
    assert not outcome.refused  # the body was stopped at that request, and came to no other
    again = Book()
    async with session_of(comp, again, log=stored(outcome.log)) as session:
        assert not cancelled(await session.outcome()).refused
    assert again.said == []


async def test_a_session_that_is_left_while_it_is_kept() -> None:
    """7.7 A session that suspends does not wait for its store: what was settled stays in the log."""
    keeper = Book()
    keeper.wait = anyio.Event()
    async with session_of(calling(["a", "b"]), keeper):
        await keeper.waits.wait()
    assert keeper.said == ["before", "call a"]
    assert [entry.state for entry in keeper.log.entries] == ["executed"]


async def test_without_a_keeper() -> None:
    """8.2 Where nobody stores the log, nothing is asked: `run` and `start` know no keeper."""
    keeper = Book()
    assert await run(calling(["a"]), *keeper.handlers) == ["a"]
    assert keeper.said == ["call a"]


async def test_a_task_that_fails_while_an_attempt_is_kept() -> None:
    """8.6 A task that fails while a failed attempt is kept stops the strand then, and not when the next one is due."""
    keeper = Book()
    keeper.wait = anyio.Event()

    @computation
    async def fails() -> Effectful[None]:
        await keeper.waits.wait()
        message = "the task"
        raise TypeError(message)
        yield Clock.now()

    @computation
    async def forks() -> Effectful[None]:
        yield fork(fails())
        yield Call("bad").retried(Retry(2, timedelta(hours=1)))

    async with session_of(forks(), keeper) as session:
        await keeper.waits.wait()
        await anyio.wait_all_tasks_blocked()
        keeper.wait.set()
        with anyio.fail_after(5):
            assert isinstance(failed(await session.outcome()).error, TypeError)
    assert keeper.said == ["before", "call bad", "0/2 started"]


async def test_a_run_that_is_cancelled_while_an_attempt_is_kept() -> None:
    """7.7 A run cancel that comes while a failed attempt is kept takes effect there: no other one is waited for."""
    keeper = Book()
    keeper.wait = anyio.Event()

    @computation
    async def retries() -> Effectful[None]:
        yield Call("bad").retried(Retry(2, timedelta(hours=1)))

    async with session_of(retries(), keeper) as session, anyio.create_task_group() as group:
        await keeper.waits.wait()
        group.start_soon(session.cancel)
        await anyio.wait_all_tasks_blocked()
        keeper.wait.set()
        outcome = cancelled(await session.outcome())
    (entry,) = outcome.log.entries
    assert entry.error is not UNSET
    assert (entry.error.kind, len(entry.attempts)) == ("run-cancel", 1)
