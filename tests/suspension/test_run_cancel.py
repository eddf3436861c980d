"""7.7: a run cancel is recorded first, then delivered; brackets and `ensure` still do their cleanup."""

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from msgspec import UNSET

from skuld_async import (
    Computation,
    Effect,
    Effectful,
    Handler,
    Log,
    Outcome,
    Return,
    RunCancelledError,
    Session,
    State,
    _computation,
    bracket,
    computation,
    mark_loop,
    open_session,
    replay,
    resume,
)

from .parts import Approval, Call, Desk, Release, calls, cancelled, idles, in_turn, states, stored, suspended

counter = State("run_cancel.counter", int)


class Served(Effect[str], frozen=True):
    """Answered by a handler that requests effects itself."""


async def serve(_effect: Served) -> str:
    await counter.modify(lambda value: value + 1)
    first = await Call("inner")
    second = await Call("hang inner")
    return f"{first} {second}"


class Pondered(Effect[str], frozen=True):
    """Answered by a handler that requests effects, and then awaits something of its own."""


def handlers(desk: Desk) -> list[Any]:
    async def ponder(_effect: Pondered) -> str:
        await counter.modify(lambda value: value + 1)
        await Call("inner")
        desk.at("pondering").set()
        await anyio.sleep_forever()
        raise AssertionError

    return [*desk.handlers, Served.handled_by(serve), Pondered.handled_by(ponder), counter.handler(0)]


async def cancel_at(comp: Computation[Any], desk: Desk, when: str | None, reason: str = "why") -> Log:
    """*comp*, cancelled when *when* has arrived at the desk; None: where it stands still."""
    async with open_session(comp, *handlers(desk), id="run", seed="s") as session:
        await stands_still(session) if when is None else await desk.at(when).wait()
        with anyio.fail_after(5):
            outcome = cancelled(await session.cancel(reason))
    assert outcome.reason == reason
    assert outcome.log.header.status == "cancelled"
    with pytest.raises(RunCancelledError, match=f"run run was cancelled: {reason}"):
        outcome.value  # noqa: B018 - a property that raises
    return outcome.log


async def stands_still(session: Session[Any]) -> None:
    """Until the session is parked, or its body is in an await of its own."""
    for _ in range(20):
        await anyio.lowlevel.checkpoint()


@computation
async def asks_inside() -> Effectful[str]:
    yield Call("before")
    decision = yield Approval("lamp")
    yield Call("after")
    yield Return(decision)


@computation
async def serves_inside() -> Effectful[str]:
    answer = yield Served()
    yield Return(answer)


@computation
async def ponders_inside() -> Effectful[str]:
    answer = yield Pondered()
    yield Return(answer)


@computation
async def in_a_loop() -> Effectful[str]:
    turn = 0
    while True:
        turn = yield mark_loop("turn", int, carry=turn)
        yield Call(f"turn {turn}")
        if turn == 2:
            yield in_turn(["hang"])
        turn += 1


@computation
async def idles_in_a_loop() -> Effectful[str]:
    turn = 0
    while True:
        turn = yield mark_loop("turn", int, carry=turn)
        if turn == 2:
            await anyio.sleep_forever()
        yield Call(f"turn {turn}")
        turn += 1


@computation
async def idles_deep_down() -> Effectful[str]:
    yield Call("outer")
    await anyio.lowlevel.checkpoint()
    await anyio.lowlevel.checkpoint()
    value = yield idles_first().ensure(Release("inner"))
    yield Return(value)


@computation
async def idles_first() -> Effectful[str]:
    """Awaits before its first request, then requests what its cleanup requests too."""
    await anyio.sleep_forever()
    value = yield Release("inner")
    yield Return(value)


@computation
async def idles_at_once() -> Effectful[str]:
    await anyio.sleep_forever()
    yield Call("after")
    yield Return("")


PLACES: dict[str, tuple[Computation[Any], str | None]] = {
    "at-a-question": (asks_inside(), None),
    "in-a-call": (calls("before", "hang"), "hang"),
    "in-the-first-call": (calls("hang"), "hang"),
    "in-an-await-of-the-body": (idles(), None),
    "in-the-first-await": (idles_at_once(), None),
    "in-an-await-deep-down": (idles_deep_down(), None),
    "in-a-handler-that-requests": (serves_inside(), "hang inner"),
    "in-a-handler-that-awaits": (ponders_inside(), "pondering"),
    "in-a-loop": (in_a_loop(), "hang"),
    "in-an-await-in-a-loop": (idles_in_a_loop(), None),
}
AGAIN: list[Callable[..., Awaitable[Outcome[Any]]]] = [resume, replay]


def with_cleanup(comp: Computation[Any]) -> Computation[Any]:
    return bracket(Call("room"), lambda _: comp.ensure(Release("table")), Release).ensure(Release("door"))


CLEANUP = ["release table", "release ROOM", "release door"]


@pytest.mark.parametrize("place", list(PLACES))
async def test_brackets_and_ensure_perform_their_effects(place: str) -> None:
    """7.7 Wherever the run stands when it is cancelled, brackets and `ensure` perform and log their effects."""
    comp, when = PLACES[place]
    desk = Desk()
    log = await cancel_at(with_cleanup(comp), desk, when)
    assert desk.arrived[-3:] == CLEANUP
    assert [entry.state for entry in log.entries[-3:]] == ["executed"] * 3
    assert "after" not in desk.arrived
    assert len({entry.id for entry in log.entries}) == len(log.entries)


@pytest.mark.parametrize("verb", AGAIN, ids=["resume", "replay"])
@pytest.mark.parametrize("place", list(PLACES))
async def test_a_cancelled_log_comes_to_the_same_again(
    place: str, verb: Callable[..., Awaitable[Outcome[Any]]]
) -> None:
    """7.7 `resume` and `replay` of a cancelled log: cancelled at the same place, nothing performed, the same log."""
    comp, when = PLACES[place]
    log = await cancel_at(with_cleanup(comp), Desk(), when)
    before = log.to_json()
    desk = Desk()
    with anyio.fail_after(5):
        outcome = cancelled(await verb(with_cleanup(comp), stored(log), *handlers(desk)))
    assert desk.arrived == []
    assert outcome.log.to_json() == before
    assert outcome.reason == "why"


@pytest.mark.parametrize("place", list(PLACES))
async def test_a_cleanup_that_was_cut_short_is_finished(place: str) -> None:
    """7.7 The process may end after any entry of the cleanup: `resume` finishes it, each effect once, by its key."""
    comp, when = PLACES[place]
    whole = await cancel_at(with_cleanup(comp), Desk(), when)
    for kept in range(3):
        log = stored(whole)
        del log.entries[len(log.entries) - 3 + kept :]
        desk = Desk()
        with anyio.fail_after(5):
            outcome = cancelled(await resume(with_cleanup(comp), log, *handlers(desk)))
        assert desk.arrived == CLEANUP[kept:]
        assert outcome.log.to_json() == whole.to_json()


@pytest.mark.parametrize("place", ["at-a-question", "in-a-call", "in-the-first-call", "in-a-loop"])
async def test_a_cancel_that_was_recorded_and_not_delivered(place: str) -> None:
    """7.7 Recorded first, then delivered: a process that ended in between left a log that says where to cancel."""
    comp, when = PLACES[place]
    whole = await cancel_at(with_cleanup(comp), Desk(), when)
    log = stored(whole)
    del log.entries[-3:]
    cut = log.entries[-1]
    assert log.header.cancelled is not UNSET
    assert cut.id == log.header.cancelled.at
    log.entries[-1] = type(cut)(cut.id, cut.sig, cut.data, "started")
    desk = Desk()
    outcome = cancelled(await resume(with_cleanup(comp), log, *handlers(desk)))
    assert desk.arrived == CLEANUP
    assert states(outcome.log) == states(whole)


async def test_the_cancel_is_recorded_first() -> None:
    """7.7 When the body sees its cancellation, the log says already that the run was cancelled, and why."""
    seen: list[tuple[str, str]] = []

    @computation
    async def watches() -> Effectful[str]:
        try:
            decision = yield Approval("lamp")
        finally:
            header = session.log.header
            assert header.cancelled is not UNSET
            seen.append((header.status, header.cancelled.reason))
        yield Return(decision)

    async with open_session(watches()) as session:
        suspended(await session.outcome())
        cancelled(await session.cancel("budget"))
    assert seen == [("cancelled", "budget")]
    assert states(session.log) == [("0/1", "discarded")]
    error = session.log.entries[0].error
    assert error is not UNSET
    assert error.kind == "run-cancel"


async def test_refused_requests_are_named() -> None:
    """5.3, 7.7 Under run cancel effects in a plain `finally` are refused, and the outcome names each with its line."""

    @computation
    async def refunds_too_late() -> Effectful[str]:
        try:
            try:
                decision = yield Approval("lamp")
            finally:
                yield Call("refund")
        finally:
            try:
                await Release("lamp")
            finally:
                yield calls("notify")
        yield Return(decision)

    desk = Desk()
    async with open_session(refunds_too_late(), *desk.handlers) as session:
        suspended(await session.outcome())
        outcome = cancelled(await session.cancel())
    assert desk.arrived == []
    assert [request.partition(" at ")[0] for request in outcome.refused] == [
        "Call",
        "Release",
        f"{__package__}.parts:in_turn",
    ]
    assert all(f"{__file__}:" in request for request in outcome.refused)
    again = cancelled(await replay(refunds_too_late(), stored(outcome.log), *desk.handlers))
    assert again.refused == outcome.refused


async def test_a_body_that_swallows_the_cancel_is_cancelled() -> None:
    """5.8 No `except BaseException` turns a cancelled run into a completed one, and nothing more is performed."""

    @computation
    async def stubborn() -> Effectful[str]:
        for _ in range(3):
            try:
                yield Approval("lamp")
            except BaseException:  # noqa: BLE001, S110 - the point of the test
                pass
        yield Return("completed")

    desk = Desk()
    async with open_session(stubborn().ensure(Release("door")), *desk.handlers) as session:
        suspended(await session.outcome())
        outcome = cancelled(await session.cancel())
    assert desk.arrived == ["release door"]
    assert len([request for request in outcome.refused if request.startswith("Approval at ")]) == 2


async def test_plain_cleanup_runs_with_its_awaits() -> None:
    """7.7 Plain `finally` code runs under a run cancel too, awaits in it included, at a question and in a call."""
    notes: list[str] = []

    @computation
    async def frees(inner: Effect[Any]) -> Effectful[str]:
        try:
            yield inner
        finally:
            await anyio.sleep(0.001)
            notes.append("freed")
        yield Return("")

    for inner, when in ((Approval("lamp"), None), (Call("hang"), "hang")):
        await cancel_at(frees_of(frees, inner), Desk(), when)
    assert notes == ["freed", "freed"]


def frees_of(definition: Any, inner: Effect[Any]) -> Computation[Any]:
    """The computation without its argument, which no log could hold."""

    @computation(name=f"frees {type(inner).__name__}")
    async def frees() -> Effectful[Any]:
        value = yield definition(inner)
        yield Return(value)

    return frees()


@pytest.mark.parametrize("how", ["effect", "computation"])
async def test_a_release_that_is_under_way_is_not_cut_short(how: str) -> None:
    """7.7 A cleanup in flight when the run is cancelled goes on, shielded: what it began is not left half done."""
    leave = anyio.Event()
    desk = Desk()

    async def slow(effect: Release) -> str:
        desk.arrived.append(effect.name)
        desk.at("releasing").set()
        await leave.wait()
        desk.arrived.append("released")
        return effect.name

    @computation
    async def releases() -> Effectful[str]:
        yield Release("lamp")
        yield Call("note")
        yield Return("")

    cleanup: Any = Release("lamp") if how == "effect" else releases()
    comp = calls("a").ensure(cleanup)
    async with open_session(comp, Release.handled_by(slow), Call.handled_by(desk.serve)) as session:
        await desk.at("releasing").wait()

        async def later() -> None:
            await anyio.sleep(0.005)
            leave.set()

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            outcome = cancelled(await session.cancel())
    assert desk.arrived == ["a", "lamp", "released", *(["note"] if how == "computation" else [])]
    assert {entry.state for entry in outcome.log.entries} == {"executed"}
    again = cancelled(await resume(comp, stored(outcome.log), *Desk().handlers))
    assert again.log.to_json() == outcome.log.to_json()


async def test_what_is_being_acquired_is_released() -> None:
    """5.3, 7.7 A run cancel while a bracket acquires takes effect in the use: what was acquired is released."""
    leave = anyio.Event()
    desk = Desk()

    async def slow(effect: Call) -> str:
        desk.arrived.append(effect.name)
        desk.at("acquiring").set()
        await leave.wait()
        return "room 7"

    comp = bracket(Call("room"), calls, Release)
    async with open_session(comp, Call.handled_by(slow), Release.handled_by(desk.serve)) as session:
        await desk.at("acquiring").wait()

        async def later() -> None:
            await anyio.sleep(0.005)
            leave.set()

        async with anyio.create_task_group() as group:
            group.start_soon(later)
            outcome = cancelled(await session.cancel())
    assert desk.arrived == ["room", "release room 7"]
    assert len(outcome.refused) == 1
    for verb in AGAIN:
        again = Desk()
        same = cancelled(await verb(comp, stored(outcome.log), *again.handlers))
        assert again.arrived == []
        assert same.log.to_json() == outcome.log.to_json()
        assert same.refused == outcome.refused


GRACE = 0.1


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_computation, "CLEANUP_GRACE", GRACE)


@pytest.mark.usefixtures("short_grace")
@pytest.mark.parametrize("cleanup", [Release("hang"), calls("hang too"), idles()], ids=["effect", "call", "await"])
async def test_a_cleanup_that_hangs_is_ended(cleanup: Any) -> None:
    """7.7 Cleanup has a grace time: one that hangs is ended after it, and the cleanup around it is still done."""
    comp = calls("hang").ensure(cleanup).ensure(Release("door"))
    desk = Desk()
    log = await cancel_at(comp, desk, "hang")
    assert desk.arrived[-1] == "release door"
    again = Desk()
    outcome = cancelled(await resume(comp, stored(log), *again.handlers))
    assert again.arrived == []
    assert states(outcome.log) == states(log)


@pytest.mark.usefixtures("short_grace")
async def test_a_release_that_is_under_way_has_the_grace_time_too() -> None:
    """7.7 What was in flight when the cancel came is ended after the grace time as well."""
    comp = calls("a").ensure(Release("hang")).ensure(Release("door"))
    desk = Desk()
    log = await cancel_at(comp, desk, "release hang")
    assert desk.arrived == ["a", "release hang", "release door"]
    assert [state for _, state in states(log)] == ["executed", "discarded", "executed"]
    again = Desk()
    outcome = cancelled(await resume(comp, stored(log), *again.handlers))
    assert again.arrived == []
    assert states(outcome.log) == states(log)


async def test_a_cleanup_that_fails_does_not_hide_the_cancel() -> None:
    """7.7 The run is cancelled whatever its cleanup raises; its entry says what it was, and outer cleanup is done."""
    desk = Desk()

    async def breaks(effect: Release) -> str:
        if effect.name == "table":
            message = "it is nailed down"
            raise OSError(message)
        return await desk.serve(effect)

    comp = asks_inside().ensure(Release("table")).ensure(Release("door"))
    async with open_session(comp, Call.handled_by(desk.serve), Release.handled_by(breaks)) as session:
        suspended(await session.outcome())
        outcome = cancelled(await session.cancel())
    assert desk.arrived == ["before", "release door"]
    error = outcome.log.entries[2].error
    assert error is not UNSET
    assert error.message == "it is nailed down"
    again = cancelled(await resume(comp, stored(outcome.log), *Desk().handlers))
    assert again.log.to_json() == outcome.log.to_json()


async def test_a_cleanup_that_asks_is_refused() -> None:
    """7.7 The cleanup of a cancelled run waits for nobody: its question is refused and named, outer cleanup is done."""

    @computation
    async def asks_first() -> Effectful[str]:
        decision = yield Approval("throw it away?")
        yield Release("table")
        yield Return(decision)

    comp = asks_inside().ensure(asks_first()).ensure(Release("door"))
    desk = Desk()
    log = await cancel_at(comp, desk, None)
    assert desk.arrived == ["before", "release door"]
    again = Desk()
    for verb in AGAIN:
        outcome = cancelled(await verb(comp, stored(log), *again.handlers))
        assert [request.partition(" at ")[0] for request in outcome.refused] == ["Approval"]
        assert outcome.log.to_json() == log.to_json()
    assert again.arrived == []


@pytest.mark.parametrize("place", ["in-a-handler-that-requests", "in-a-handler-that-awaits"])
async def test_state_after_a_replay_is_state_after_the_cancel(place: str) -> None:
    """6.3, 7.7 What a handler did to local state before its call was cut short is there again."""
    comp, when = PLACES[place]
    assert when is not None
    desk = Desk()
    async with open_session(comp, *handlers(desk)) as session:
        await desk.at(when).wait()
        outcome = cancelled(await session.cancel())
    assert outcome.state(counter) == 1
    assert cancelled(await replay(comp, stored(outcome.log), *handlers(Desk()))).state(counter) == 1


async def test_a_suspended_log_can_be_cancelled_in_another_process() -> None:
    """7.7 The session that cancels need not be the one that began: open the log, cancel, and the cleanup is done."""
    comp = with_cleanup(asks_inside())
    first = Desk()
    async with open_session(comp, *first.handlers) as session:
        suspended(await session.outcome())
    second = Desk()
    async with open_session(comp, *second.handlers, log=stored(session.log)) as other:
        suspended(await other.outcome())
        outcome = cancelled(await other.cancel("not today"))
    assert first.arrived == ["room", "before"]
    assert second.arrived == CLEANUP
    assert outcome.log.waits == []


@pytest.mark.parametrize("has_cleanup", [False, True], ids=["bare", "cleanup"])
async def test_a_cancelled_run_performs_nothing_new(has_cleanup: bool) -> None:
    """7.7 Code that was changed to request more behind the place of the cancel is refused, not served."""

    @computation(name="run_cancel:idler")
    async def idler() -> Effectful[str]:
        yield Call("before")
        await anyio.sleep_forever()
        yield Return("")

    @computation(name="run_cancel:idler")
    async def busy() -> Effectful[str]:
        yield Call("before")
        yield Call("charge")
        yield Return("")

    def whole(comp: Computation[str]) -> Computation[str]:
        return comp.ensure(Release("door")) if has_cleanup else comp

    log = await cancel_at(whole(idler()), Desk(), None)
    desk = Desk()
    outcome = cancelled(await resume(whole(busy()), stored(log), *desk.handlers))
    assert desk.arrived == []
    assert states(outcome.log) == states(log)


async def test_a_cancel_in_a_handler_that_serves_cleanup() -> None:
    """7.7 It came while the cleanup's own handler was at work, which went on to its end: so it does on each replay."""

    @computation
    async def leaves() -> Effectful[str]:
        yield Return("left")

    async def inform(effect: Inform) -> None:
        await Call(f"write {effect.whom}")

    async def write(_effect: Call) -> str:
        writing.set()
        await anyio.sleep(0.01)
        return "written"

    def handlers() -> list[Handler]:
        return [Call.handled_by(write), Inform.handled_by(inform)]

    writing = anyio.Event()
    comp = leaves().ensure(Inform("bob"))
    async with open_session(comp, *handlers()) as session:
        await writing.wait()
        outcome = cancelled(await session.cancel("enough"))
    assert [one.state for one in outcome.log.entries] == ["executed", "executed"]
    for verb in AGAIN:
        assert cancelled(await verb(comp, stored(outcome.log), *handlers())).log.to_json() == outcome.log.to_json()


class Inform(Effect[None], frozen=True):
    """Answered by a handler that requests effects itself."""

    whom: str
