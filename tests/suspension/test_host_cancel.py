"""7.7: a host cancel (a deadline, a task group, `task.cancel()`) is a cold suspension."""

import asyncio
from typing import Any

import anyio
import pytest

from skuld_async import (
    Computation,
    Effect,
    Effectful,
    Log,
    Return,
    State,
    computation,
    open_session,
    replay,
    resume,
    start,
)

from .parts import (
    Approval,
    Call,
    Desk,
    Release,
    calls,
    completed,
    host_cancelled,
    idles,
    states,
    stored,
    suspended,
)

counter = State("host.counter", int)


class Served(Effect[str], frozen=True):
    """Answered by a handler that requests effects itself."""


def working(desk: Desk) -> list[Any]:
    """Handlers under which nothing hangs."""

    async def serve(effect: Call | Release) -> str:
        desk.arrived.append(effect.name)
        return effect.name.upper()

    return [Call.handled_by(serve), Release.handled_by(serve), *served()]


def served() -> list[Any]:
    async def serve(_effect: Served) -> str:
        await counter.modify(lambda value: value + 1)
        first = await Call("inner")
        second = await Call("hang inner")
        return f"{first} {second}"

    return [Served.handled_by(serve), counter.handler(0)]


async def check_goes_on(comp: Computation[Any], log: Log, desk: Desk, performed: list[str], key: str) -> None:
    """*log* goes on: what was in flight is performed again under its own key, and nothing else a second time."""
    again = Desk()
    keys: list[str] = []

    async def serve(effect: Call) -> str:
        keys.append(effect.name)
        again.at(effect.name).set()
        return effect.name.upper()

    handlers = [Call.handled_by(serve), Release.handled_by(again.serve), *served()]
    before = log.to_json()
    outcome = await resume(comp, stored(log), *handlers)
    assert keys == performed
    assert log.to_json() == before
    assert desk.keys[performed[0]] == [key]
    completed(outcome)


async def reach(scope: anyio.CancelScope, event: anyio.Event) -> None:
    """Let the deadline of *scope* be now, once *event* is there."""
    await event.wait()
    scope.deadline = anyio.current_time()


async def test_a_deadline_of_the_host() -> None:
    """7.7 `move_on_after` around `start`: nothing is recorded, the entry stays started, `into=` holds the log."""
    log, desk = Log(), Desk()
    async with anyio.create_task_group() as group:
        with anyio.move_on_after(60) as scope:
            group.start_soon(reach, scope, desk.at("hang"))
            await start(calls("a", "hang", "b"), *desk.handlers, into=log, id="run")
    assert scope.cancelled_caught
    assert log.header.status == "running"
    assert states(log) == [("0/1", "executed"), ("0/2", "started")]
    await check_goes_on(calls("a", "hang", "b"), log, desk, ["hang", "b"], "run/0/2")


async def test_a_timeout_of_the_host() -> None:
    """7.7 `fail_after` around `start` raises its TimeoutError, and the log is there."""
    log, desk = Log(), Desk()

    async def runs() -> None:
        async with anyio.create_task_group() as group:
            with anyio.fail_after(60) as scope:
                group.start_soon(reach, scope, desk.at("hang"))
                await start(calls("hang"), *desk.handlers, into=log, id="run")

    with pytest.raises(ExceptionGroup) as caught:
        await runs()
    assert [type(error) for error in caught.value.exceptions] == [TimeoutError]
    assert states(log) == [("0/1", "started")]
    await check_goes_on(calls("hang"), log, desk, ["hang"], "run/0/1")


async def test_a_task_group_of_the_host() -> None:
    """7.7 The host's task group is cancelled, because a sister failed; its error comes out, alone."""
    log, desk = Log(), Desk()

    async def sister() -> None:
        await desk.at("hang").wait()
        message = "sister"
        raise LookupError(message)

    async def runs() -> None:
        await start(calls("hang"), *desk.handlers, into=log, id="run")

    with pytest.raises(ExceptionGroup) as caught:  # noqa: PT012
        async with anyio.create_task_group() as group:
            group.start_soon(sister)
            group.start_soon(runs)
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert states(log) == [("0/1", "started")]
    await check_goes_on(calls("hang"), log, desk, ["hang"], "run/0/1")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("times", [1, 2, 3])
async def test_task_cancel(times: int) -> None:
    """7.7 asyncio's own `task.cancel()`, once or often: the task is cancelled, no other is left, the log goes on."""
    log, desk = Log(), Desk()
    notes: list[str] = []

    @computation
    async def slow_to_leave() -> Effectful[str]:
        try:
            answer = yield Call("hang")
        finally:
            await anyio.sleep(0.02)
            notes.append("left")
        yield Return(answer)

    before = asyncio.all_tasks()
    task = asyncio.create_task(start(slow_to_leave(), *desk.handlers, into=log, id="run"))
    await desk.at("hang").wait()
    for _ in range(times):
        task.cancel()
        await asyncio.sleep(0.002)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()
    assert notes == ["left"]
    assert asyncio.all_tasks() <= before
    assert states(log) == [("0/1", "started")]
    await check_goes_on(slow_to_leave(), log, desk, ["hang"], "run/0/1")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio_timeout() -> None:
    """7.7 `asyncio.timeout` around `start` counts its own cancellation: it becomes a TimeoutError, as it should."""
    log, desk = Log(), Desk()
    timeout = asyncio.timeout(60)

    async def expire() -> None:
        await desk.at("hang").wait()
        timeout.reschedule(asyncio.get_running_loop().time())

    async def runs() -> None:
        async with timeout:
            await start(calls("hang"), *desk.handlers, into=log, id="run")

    async with anyio.create_task_group() as group:
        group.start_soon(expire)
        with pytest.raises(TimeoutError):
            await runs()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await check_goes_on(calls("hang"), log, desk, ["hang"], "run/0/1")


async def test_a_host_that_is_cancelled_already() -> None:
    """7.7 Nothing external is begun under a host that is cancelled before the run began."""
    log, desk = Log(), Desk()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await start(calls("a"), *desk.handlers, into=log)
    assert scope.cancelled_caught
    assert desk.arrived == []
    assert log.header.computation.endswith(":in_turn")
    completed(await resume(calls("a"), stored(log), *desk.handlers))
    assert desk.arrived == ["a"]


async def test_while_the_body_is_in_an_await_of_its_own() -> None:
    """7.7 The body's own await is cut short as well; what was performed stays performed."""
    log, desk = Log(), Desk()

    async def host() -> None:
        await desk.at("before").wait()
        while not log.entries or log.entries[0].state == "started":  # noqa: ASYNC110 - nothing tells when a log grows
            await anyio.sleep(0.001)
        group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        group.start_soon(host)
        await start(idles(), *desk.handlers, into=log)
    assert states(log) == [("0/1", "executed")]
    assert log.header.status == "running"
    suspended(await replay(busy(log), stored(log), *desk.handlers))


def busy(log: Log) -> Computation[str]:
    """What `idles` becomes when its await is over."""

    @computation(name=log.header.computation)
    async def done() -> Effectful[str]:
        yield Call("before")
        yield Call("after")
        yield Return("done")

    return done()


async def test_while_the_run_is_parked_hot() -> None:
    """7.7 A host cancel of a parked session is a suspension like any other."""
    scope = anyio.CancelScope()
    with scope:
        async with open_session(calls("a").ensure(Call("never")), Call.handled_by(ask_first)) as session:
            suspended(await session.outcome())
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert session.log.header.status == "suspended"
    assert [wait.sig.rpartition(":")[2] for wait in session.log.waits] == ["Approval"]


async def ask_first(effect: Call) -> str:
    return await Approval(effect.name)


async def test_during_a_cleanup() -> None:
    """7.7 A cleanup in flight is no exception: it stays started, and the resume performs it again under its key."""
    comp = calls("a").ensure(Release("hang"))
    desk = Desk()
    log = await host_cancelled(comp, *desk.handlers, when=desk.at("release hang"), id="run")
    assert states(log) == [("0/1", "executed"), ("0/2", "started")]
    again = Desk()
    assert completed(await resume(comp, log, *working(again))).value == "A"
    assert again.arrived == ["hang"]
    assert desk.keys["release hang"] == ["run/0/2"]


async def test_during_the_cleanup_of_a_cancelled_run() -> None:
    """7.7 A host cancel may cut short the cleanup of a run cancel; `resume` finishes it."""
    comp = calls("hang").ensure(Release("hang"))
    desk = Desk()
    log = Log()
    with anyio.CancelScope() as scope:
        async with (
            open_session(comp, *desk.handlers, into=log, id="run") as session,
            anyio.create_task_group() as group,
        ):

            async def host() -> None:
                await desk.at("release hang").wait()
                scope.cancel()

            group.start_soon(host)
            await desk.at("hang").wait()
            await session.cancel("reason")
    assert states(log) == [("0/1", "discarded"), ("0/2", "started")]
    assert log.header.status == "cancelled"
    again = Desk()
    outcome = await resume(comp, stored(log), *working(again))
    assert type(outcome).__name__ == "Cancelled"
    assert again.arrived == ["hang"]
    assert states(outcome.log) == [("0/1", "discarded"), ("0/2", "executed")]


async def test_while_a_handler_requests_effects() -> None:
    """5.9, 7.7 Both entries stay started; the handler begins again, and what it was answered is not performed again."""

    @computation
    async def asks_handler() -> Effectful[str]:
        answer = yield Served()
        yield Return(answer)

    desk = Desk()
    log = await host_cancelled(asks_handler(), *desk.handlers, *served(), when=desk.at("hang inner"), id="run")
    assert states(log) == [("0/1", "started"), ("0/1/1", "executed"), ("0/1/2", "executed"), ("0/1/3", "started")]
    again = Desk()
    outcome = completed(await resume(asks_handler(), stored(log), *working(again)))
    assert outcome.value == "INNER HANG INNER"
    assert outcome.state(counter) == 1
    assert again.arrived == ["hang inner"]


@pytest.mark.parametrize("then", ["request", "await"])
async def test_a_call_that_ends_all_the_same_is_kept(then: str) -> None:
    """7.7 A call that shields itself is not lost: its answer is settled, then the run stops behind it."""
    entered, leave = anyio.Event(), anyio.Event()
    arrived: list[str] = []

    async def shields(effect: Call) -> str:
        arrived.append(effect.name)
        with anyio.CancelScope(shield=True):
            entered.set()
            await leave.wait()
        return "charged"

    @computation
    async def charges() -> Effectful[str]:
        receipt = yield Call("charge")
        if then == "await":
            await anyio.sleep_forever()
        yield Call("ship")
        yield Return(receipt)

    log = Log()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:

            async def host() -> None:
                await entered.wait()
                scope.cancel()
                await anyio.sleep(0.005)
                leave.set()

            group.start_soon(host)
            with anyio.CancelScope() as scope:
                await start(charges(), Call.handled_by(shields), into=log)
    assert arrived == ["charge"]
    assert states(log) == [("0/1", "executed")]


async def test_an_error_made_of_the_cancellation_is_no_answer() -> None:
    """7.7 A driver that turns its cancellation into an error has not been answered: nothing is recorded."""

    async def driver(effect: Call) -> str:
        desk.at(effect.name).set()
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            message = "connection closed"
            raise ConnectionError(message) from error
        return "never"

    desk = Desk()
    log = await host_cancelled(calls("a"), Call.handled_by(driver), when=desk.at("a"))
    assert states(log) == [("0/1", "started")]
    assert completed(await resume(calls("a"), stored(log), *desk.handlers)).value == "A"


async def test_the_caller_that_was_cancelled_goes_on() -> None:
    """7.7 The caller sees its own cancellation and nothing else: behind its scope it works, and holds the log."""
    log, desk = Log(), Desk()
    with anyio.move_on_after(0.01):
        await start(calls("hang"), *desk.handlers, into=log)
    await anyio.sleep(0.001)
    outcome = await resume(calls("hang"), log, *working(desk))
    assert completed(outcome).value == "HANG"


async def test_into_is_filled_while_the_run_goes_on() -> None:
    """7.7 The log that `into=` names is the run's own: at each moment it holds what was done."""
    log, desk = Log(), Desk()
    seen: list[list[tuple[str, str]]] = []

    async def serve(effect: Call) -> str:
        seen.append(states(log))
        return effect.name

    await start(calls("a", "b"), Call.handled_by(serve), into=log)
    assert seen == [[("0/1", "started")], [("0/1", "executed"), ("0/2", "started")]]
    assert desk.arrived == []
