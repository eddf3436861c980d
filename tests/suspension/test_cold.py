"""7.5 and 7.6: `start` and `resume` end cold; what runs then, and what does not."""

import asyncio
import gc
import inspect
import types
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import pytest

from skuld_async import (
    Computation,
    Effectful,
    Fresh,
    Handler,
    Outcome,
    Return,
    State,
    Throw,
    bracket,
    computation,
    lifetime,
    mark_loop,
    open_session,
    replay,
    resume,
    start,
)
from skuld_async.testing.plugin import AlwaysCold

from .parts import Approval, Call, Desk, Release, approval, completed, host_cancelled, states, suspended

total = State("suspension.total", int)


@contextmanager
def nothing_left_behind() -> Generator[None]:
    """No task more than before, and no generator or coroutine of this file that waits in a frame."""
    before = {task.id for task in anyio.get_running_tasks()}
    yield
    assert {task.id for task in anyio.get_running_tasks()} <= before
    gc.collect()
    assert [body for body in gc.get_objects() if _waits_here(body)] == []


def _waits_here(body: object) -> bool:
    if isinstance(body, types.AsyncGeneratorType):
        frame = body.ag_frame
        return frame is not None and not body.ag_running and frame.f_code.co_filename == __file__
    if isinstance(body, types.CoroutineType):
        coroutine: Any = body  # pyright: ignore[reportUnknownVariableType] - of whatever it gives
        name, is_ours = coroutine.cr_code.co_name, coroutine.cr_code.co_filename == __file__
        is_waiting = inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED
        return is_ours and is_waiting and not name.startswith("test_")
    return False


@computation
async def asks(desk: str = "lamp") -> Effectful[str]:
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        decision = yield Approval(desk)
        group.cancel_scope.cancel()
    yield Return(decision)


@computation
async def asks_in_a_coroutine() -> str:
    return await Approval("lamp")


@computation
async def asks_deep_down(depth: int) -> Effectful[str]:
    if depth == 0:
        decision = yield asks()
    elif depth % 2:
        decision = yield asks_deep_down(depth - 1)
    else:
        decision = await asks_deep_down(depth - 1)
    yield Return(decision)


@computation
async def uses(what: str) -> Effectful[str]:
    decision = yield Approval(what)
    yield Return(decision)


ASKING: list[Any] = [
    asks(),
    asks_in_a_coroutine(),
    asks_deep_down(9),
    asks().handle(total.handler(0)),
    asks().ensure(Release("lamp")),
    bracket(Call("room"), uses, Release),
]
ASKING_IDS = ["group", "coroutine", "deep", "handle", "ensure", "bracket"]


@pytest.mark.parametrize("comp", ASKING, ids=ASKING_IDS)
async def test_start_and_resume_leave_nothing_behind(comp: Computation[str]) -> None:
    """7.5 `start` and `resume` always end cold: no task, no half-run generator ever leaves the library."""
    with nothing_left_behind():
        outcome: Outcome[Any] = await start(comp, *Desk().handlers)
        suspended(outcome)
    with nothing_left_behind():
        outcome = await resume(comp, outcome.log, *Desk().handlers)
        suspended(outcome)
    with nothing_left_behind():
        assert completed(await resume(comp, outcome.log, *Desk().handlers, answer="approved")).value == "approved"


@pytest.mark.parametrize("comp", ASKING, ids=ASKING_IDS)
async def test_a_host_cancel_leaves_nothing_behind(comp: Computation[str]) -> None:
    """7.5 The same where the host cancels it: the bodies have ended before the caller sees its cancellation."""
    desk = Desk()
    with nothing_left_behind():
        await host_cancelled(computation_behind(comp), *desk.handlers, when=desk.at("hang"))


def computation_behind(comp: Computation[str]) -> Computation[str]:
    """The computation *comp*, whose question is answered, and then a call that hangs."""

    @computation
    async def behind() -> Effectful[str]:
        decision = yield comp.handle(Approval.always("approved"))
        yield Call("hang")
        yield Return(decision)

    return behind()


async def test_leaving_a_hot_session_leaves_nothing_behind() -> None:
    """7.5 Leaving a hot session suspends it cold."""
    with nothing_left_behind():
        async with open_session(asks_deep_down(5)) as session:
            suspended(await session.outcome())


class Held:
    """A resource of the process; its exit awaits, as that of a connection does."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    async def __aenter__(self) -> None:
        self.notes.append("opened")

    async def __aexit__(self, *_: object) -> None:
        self.notes.append("closing")
        await anyio.sleep(0.001)
        await anyio.lowlevel.checkpoint()
        self.notes.append("closed")


def holding(held: Held, inner: Any) -> Computation[str]:
    """Holds *held* by `async with`, and a plain `finally`, around *inner*."""

    @computation(name="suspension:holds")
    async def holds() -> Effectful[str]:
        async with held:
            try:
                value = yield inner
            finally:
                held.notes.append("finally")
                await anyio.sleep(0.001)
                held.notes.append("finally done")
        yield Return(str(value))

    return holds()


ALL_NOTES = ["opened", "finally", "finally done", "closing", "closed"]


@pytest.mark.parametrize(
    "inner", [Approval("lamp"), uses("lamp"), uses("lamp").ensure(Release("lamp"))], ids=["plain", "deep", "ensure"]
)
async def test_plain_cleanup_runs_at_a_cold_suspension(inner: Any) -> None:
    """7.6 At a cold suspension plain `finally` and `async with` code runs, with its awaits: it frees what is held."""
    held, desk = Held(), Desk()
    outcome = suspended(await start(holding(held, inner), *desk.handlers))
    assert held.notes == ALL_NOTES
    assert desk.arrived == []
    held.notes.clear()
    ended = await resume(holding(held, inner), outcome.log, *desk.handlers, answer="approved")
    assert completed(ended).value == "approved"
    assert held.notes == ALL_NOTES


async def test_plain_cleanup_runs_when_the_host_cancels_a_call() -> None:
    """7.6, 7.7 The same where the host cancels while a call is in flight: no await of the cleanup is cut short."""
    held, desk = Held(), Desk()
    await host_cancelled(holding(held, Call("hang")), *desk.handlers, when=desk.at("hang"))
    assert held.notes == ALL_NOTES


async def test_plain_cleanup_that_hangs_has_a_grace_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """7.6 Plain cleanup that never ends is cut off after `CLEANUP_GRACE`; the run is suspended all the same."""
    monkeypatch.setattr("skuld_async._computation.CLEANUP_GRACE", 0.01)
    notes: list[str] = []

    @computation
    async def hangs() -> Effectful[str]:
        try:
            answer = yield Approval("lamp")
            yield Return(answer)
        finally:
            notes.append("cleaning")
            await anyio.sleep_forever()
            notes.append("never")

    outcome = suspended(await start(hangs()))
    assert notes == ["cleaning"]
    assert states(outcome.log) == [("0/1", "started")]


REFUSED: list[Any] = [
    Call("late"),
    Approval("late"),
    Fresh.uuid(),
    total.put(7),
    Throw(ValueError("late")),
    mark_loop("late"),
    uses("late"),
    uses("late").ensure(Call("late")),
    bracket(Call("late"), uses, Release),
]
REFUSED_IDS = ["call", "question", "fresh", "state", "throw", "mark", "computation", "ensure", "bracket"]


@pytest.mark.parametrize("late", REFUSED, ids=REFUSED_IDS)
@pytest.mark.parametrize("by_yield", [True, False], ids=["yield", "await"])
async def test_effects_in_plain_cleanup_are_refused_at_a_suspension(late: Any, by_yield: bool) -> None:
    """7.6 At a cold suspension effects are not performed: not one, of no kind."""
    after: list[str] = []

    @computation
    async def requests_late() -> Effectful[str]:
        try:
            decision = yield Approval("lamp")
        finally:
            if by_yield:
                yield late
            else:
                await late
            after.append("went on")
        yield Return(decision)

    desk = Desk()
    outcome = suspended(await start(requests_late(), total.handler(0), *desk.handlers))
    assert after == []
    assert desk.arrived == []
    assert outcome.state(total) == 0
    assert states(outcome.log) == [("0/1", "started")]


async def test_brackets_and_ensure_do_not_clean_up_at_a_suspension() -> None:
    """5.3 At a suspension nothing is released: the run still needs it. At its end it is released, once."""
    comp = bracket(Call("room"), lambda _: uses("lamp").ensure(Release("table")), Release).ensure(Release("door"))
    desk = Desk()
    log = suspended(await start(comp, *desk.handlers)).log
    assert desk.arrived == ["room"]
    log = suspended(await resume(comp, log, *desk.handlers)).log
    assert desk.arrived == ["room"]
    assert completed(await resume(comp, log, *desk.handlers, answer="approved")).value == "approved"
    assert desk.arrived == ["room", "release table", "release ROOM", "release door"]


@computation
async def swallows(how: str) -> Effectful[str]:
    """A body that does not want to stop."""
    for attempt in range(3):
        try:
            if how == "await":
                await Approval("lamp")
            else:
                yield Approval("lamp")
        except BaseException:  # noqa: BLE001 - the point of the test
            if how == "return":
                yield Return("completed")
                return
            if how == "error":
                message = f"attempt {attempt}"
                raise ValueError(message) from None
    yield Call("charge")
    yield Return("completed")


@computation
async def swallows_in_a_coroutine() -> str:
    try:
        await Approval("lamp")
    except BaseException:  # noqa: BLE001 - the point of the test
        return "completed"
    return "answered"


@pytest.mark.parametrize(
    "comp",
    [swallows("yield"), swallows("await"), swallows("return"), swallows("error"), swallows_in_a_coroutine()],
    ids=["yield", "await", "return", "error", "coroutine"],
)
async def test_a_swallowed_suspension_is_a_suspension(comp: Computation[str]) -> None:
    """5.8 No `except BaseException` turns a suspension into a completion, a failure or a charge."""
    desk = Desk()
    outcome = suspended(await start(comp, *desk.handlers))
    assert outcome.wait is not None
    assert desk.arrived == []
    assert outcome.log.header.status == "suspended"
    assert states(outcome.log) == [("0/1", "started")]


async def test_a_swallowed_host_cancel_is_none_the_less() -> None:
    """5.8 A body that catches the cancellation of its call performs nothing more, and its caller is cancelled."""

    @computation
    async def stubborn() -> Effectful[str]:
        try:
            yield Call("hang")
        except BaseException:  # noqa: BLE001, S110 - the point of the test
            pass
        yield Call("charge")
        yield Return("completed")

    desk = Desk()
    log = await host_cancelled(stubborn(), *desk.handlers, when=desk.at("hang"))
    assert desk.arrived == ["hang"]
    assert states(log) == [("0/1", "started")]
    assert log.header.status == "running"


async def test_except_exception_sees_no_signal() -> None:
    """5.8 A signal is no Exception: the usual retry loop passes it through."""

    @computation
    async def retries() -> Effectful[str]:
        for _ in range(3):
            try:
                decision = yield Approval("lamp")
                yield Return(decision)
                return  # noqa: TRY300 - as users write it
            except Exception:  # noqa: BLE001 - as above
                yield Call("note the failure")

    desk = Desk()
    suspended(await start(retries(), *desk.handlers))
    assert desk.arrived == []


def transient(desk: Desk) -> Handler:
    """The handlers of *desk* in a scope that does not survive a suspension."""

    @asynccontextmanager
    async def transaction() -> AsyncGenerator[list[Handler]]:
        yield desk.handlers

    return lifetime(transaction, spans_suspension=False)


async def test_a_question_inside_a_scope_that_does_not_survive_is_refused() -> None:
    """7.6 A scope marked `spans_suspension=False` refuses a question at that line, however deep."""
    inner = Desk()

    @computation
    async def asks_inside() -> Effectful[str]:
        yield uses("inside")
        yield Return("committed")

    outcome = None
    with pytest.raises(Exception, match=r"Approval is asked at .*test_cold.py:\d+ inside the scope of") as caught:
        outcome = await start(asks_inside().handle(transient(inner)))
    assert outcome is None
    assert "does not survive a suspension" in str(caught.value)

    @computation
    async def asks_outside() -> Effectful[str]:
        yield Approval("before")
        value = yield uses_no_question().handle(transient(inner))
        yield Return(value)

    log = suspended(await start(asks_outside())).log
    assert completed(await resume(asks_outside(), log, answer="approved")).value == "ROOM"


@computation
async def uses_no_question() -> Effectful[str]:
    room = yield Call("room")
    yield Return(room)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"debug": True})], ids=["asyncio-debug"])
async def test_asyncio_in_debug_mode_has_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    """7.5 No "never awaited", no "was destroyed", no "different task", in debug mode too (warnings are errors here)."""
    asyncio.get_running_loop().slow_callback_duration = 60
    for comp in (asks(), asks_in_a_coroutine(), asks_deep_down(6), holding(Held(), Approval("lamp"))):
        outcome = suspended(await start(comp))
        suspended(await replay(comp, outcome.log))
        completed(await resume(comp, outcome.log, answer="approved"))
    desk = Desk()
    await host_cancelled(holding(Held(), Call("hang")), *desk.handlers, when=desk.at("hang"))
    gc.collect()
    await anyio.lowlevel.checkpoint()
    assert caplog.records == []


async def test_what_suspends_here_is_always_cold(always_cold: AlwaysCold) -> None:
    """7.5 Stopped and resumed at every effect, these computations come to the same."""
    for comp in (*ASKING, holding(Held(), Approval("lamp")), approval("lamp")):
        outcome = await always_cold(comp, *Desk().handlers, total.handler(0), answer=lambda _: "approved")
        completed(outcome)
