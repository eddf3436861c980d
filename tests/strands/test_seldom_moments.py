"""Moments that are seldom met: before the first step, behind a finished concurrent effect, a failure in a replay."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import anyio
import pytest

from skuld_async import (
    Cancelled,
    Computation,
    Effectful,
    EventAccumulator,
    Log,
    OtherQuestionError,
    Parallel,
    Return,
    Yield,
    bracket,
    cancel,
    computation,
    fork,
    join,
    open_session,
    port,
    replay,
    resume,
    start,
    with_timeout,
)

from .parts import completed, suspended

events = EventAccumulator("strands.seldom", str)
calls: list[int] = []


@pytest.fixture(autouse=True)
def _no_calls() -> None:
    calls.clear()


@port
async def call(number: int) -> int:
    calls.append(number)
    return number


class Ask(Yield[int], frozen=True):
    number: int


@computation
async def once(number: int) -> Effectful[int]:
    yield Return((yield call(number)))


@computation
async def bracketed() -> Effectful[int]:
    yield Return((yield bracket(call(1), once, call)))


@computation
async def held_by_a_task() -> Effectful[int]:
    yield fork(Ask(1))
    yield Parallel.all(once(1), once(2))
    yield Return(1)


@computation
async def behind_branches() -> Effectful[int]:
    yield Parallel.all(once(1), once(2))
    await anyio.sleep_forever()
    yield Return(1)


ROOTS: dict[str, Callable[[], Computation[Any]]] = {
    "all": lambda: Parallel.all(once(1), once(2)),
    "race": lambda: Parallel.race(a=once(1)),
    "bracket": bracketed,
    "bracket at the root": lambda: bracket(call(1), once, call),
    "brackets in branches": lambda: Parallel.all(bracketed(), bracketed()),
    "timed": lambda: with_timeout(bracketed(), timedelta(1)),
}


@pytest.mark.parametrize("root", ROOTS)
@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5])
async def test_a_run_that_is_cancelled_at_once_stays_cancelled(root: str, steps: int) -> None:
    """7.7 Recorded first, then delivered: also before the first step; a resume performs nothing."""
    async with open_session(ROOTS[root](), call.default()) as session:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        outcome = await session.cancel()
    if not isinstance(outcome, Cancelled):
        return  # it was faster
    calls.clear()
    for verb in (resume, replay):
        again = await verb(ROOTS[root](), Log.from_json(outcome.log.to_json()), call.default())
        assert isinstance(again, Cancelled)
    assert calls == []


@pytest.mark.parametrize("body", [held_by_a_task, behind_branches])
async def test_a_run_is_cancelled_behind_a_finished_concurrent_effect(body: Callable[[], Computation[int]]) -> None:
    """7.7 A replay is cancelled where the run was: behind the concurrent effect, and not while its branches run."""
    async with open_session(body(), call.default()) as session:
        await anyio.wait_all_tasks_blocked()
        outcome = await session.cancel()
    assert isinstance(outcome, Cancelled)
    assert sorted(calls) == [1, 2]
    for verb in (resume, replay):
        again = await verb(body(), Log.from_json(outcome.log.to_json()), call.default())
        assert isinstance(again, Cancelled)
    assert sorted(calls) == [1, 2]


@computation
async def slow_at_its_end() -> Effectful[int]:
    yield events.emit("from the task")
    for _ in range(20):
        await anyio.lowlevel.checkpoint()
    yield Return(7)


@computation
async def cancels_late() -> Effectful[int]:
    task = yield fork(slow_at_its_end())
    yield Ask(1)
    yield cancel(task)
    value = yield join(task)
    yield Ask(2)
    yield Return(value)


async def test_a_task_that_had_returned_is_not_cancelled_by_a_replay() -> None:
    """What was cancelled when it had ended has ended in each replay too: its value and its notes are there."""
    async with open_session(cancels_late(), events.handler()) as session:
        await session.outcome()
        await anyio.wait_all_tasks_blocked()
        await session.answer(1)
        log = suspended(await session.outcome()).log
    outcome = completed(await resume(cancels_late(), Log.from_json(log.to_json()), events.handler(), answer=2))
    assert outcome.value == 7
    assert outcome.output(events) == ["from the task"]


class Supplier:
    """Hangs in the first process, and is out of reach in the second."""

    is_down = False

    async def fetch(self) -> int:
        if not self.is_down:
            await anyio.sleep_forever()
        message = "down"
        raise ConnectionError(message)


@port
async def fetch() -> int:
    return 0


@computation
async def asks_beside_a_task() -> Effectful[int]:
    yield fork(fetch())
    yield Parallel.all(once(1), once(2))
    yield Return((yield Ask(1)))


@computation
async def asks_again() -> Effectful[str]:
    try:
        first = f"{yield asks_beside_a_task()}"
    except ConnectionError:
        first = "down"
    yield Return(f"{first} {yield Ask(2)}")


@pytest.mark.parametrize("addressed", [True, False])
async def test_an_answer_settles_no_other_question(addressed: bool) -> None:
    """7.3 An answer is bound to its question: where that was given up on the way, it does not settle the next one."""
    supplier = Supplier()
    handlers = [call.default(), fetch.handled_by(supplier.fetch)]
    into = Log()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: start(asks_again(), *handlers, into=into))
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
    log = Log.from_json(into.to_json())
    [wait] = log.waits
    supplier.is_down = True
    with pytest.raises(OtherQuestionError) as refused:
        await resume(asks_again(), log, *handlers, answer=1, to=wait if addressed else None)
    asked = [entry for entry in refused.value.log.entries if entry.sig.endswith("Ask")]
    assert [(entry.state, bytes(entry.value)) for entry in asked] == [("discarded", b"null"), ("started", b"null")]
