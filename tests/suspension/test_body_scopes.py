"""6.8: cancel scopes that the body holds across its requests (what the log says of them stands in tests/log)."""

from typing import Any

import anyio
import pytest
import trio
from msgspec import UNSET

from skuld_async import (
    Computation,
    DeadlineAcrossYieldError,
    Effect,
    Effectful,
    Fresh,
    Perform,
    Request,
    Return,
    State,
    computation,
    open_session,
    replay,
    resume,
    start,
)

from .parts import Approval, Call, Comment, Desk, Release, calls, completed, host_cancelled, states, stored, suspended

counter = State("scopes.counter", int)


class Served(Effect[str], frozen=True):
    """Answered by a handler that requests effects itself."""


class Patience:
    """How long the bodies wait: until the call that hangs has arrived, on a replay hardly at all."""

    def __init__(self) -> None:
        self.seconds = 60.0
        self._scope: anyio.CancelScope | None = None

    def move_on(self) -> anyio.CancelScope:
        self._scope = anyio.move_on_after(self.seconds)
        return self._scope

    async def ends_at(self, event: anyio.Event) -> None:
        await event.wait()
        if self._scope is not None:
            self._scope.deadline = anyio.current_time()
            self._scope = None


patience = Patience()


async def serve(_effect: Served) -> str:
    await counter.modify(lambda value: value + 1)
    await Call("inner")
    return await Call("hang inner")


@computation
async def gives_up_on_a_handler() -> Effectful[int]:
    with patience.move_on():
        yield Served()
    yield Comment("gave up")
    count = yield counter.get()
    yield Return(count)


@computation
async def gives_up_on_a_computation() -> Effectful[str]:
    last = "gave up"
    with patience.move_on():
        last = yield calls("a", "hang").ensure(Release("a"))
    yield Comment("gave up")
    yield Return(last)


@computation
async def is_told_to_give_up() -> Effectful[str]:
    """A task beside the body cancels the scope, not a deadline."""
    last = "gave up"
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await anyio.sleep(0.01)
            group.cancel_scope.cancel()

        group.start_soon(watch)
        last = yield Call("hang")
    yield Comment("gave up")
    yield Return(last)


@computation
async def fails_in_time() -> Effectful[str]:
    try:
        with anyio.fail_after(0.02):
            yield Call("hang")
    except TimeoutError:
        yield Comment("timed out")
    yield Return("gave up")


SCOPES: dict[str, tuple[Computation[Any], list[tuple[str, str]], Any, list[str]]] = {
    "handler": (
        gives_up_on_a_handler(),
        [
            ("0/1", "discarded"),
            ("0/1/1", "executed"),
            ("0/1/2", "executed"),
            ("0/1/3", "discarded"),
            ("0/2", "started"),
        ],
        1,
        ["inner", "hang inner"],
    ),
    "computation": (
        gives_up_on_a_computation(),
        [("0/2", "executed"), ("0/3", "discarded"), ("0/4", "executed"), ("0/5", "started")],
        "gave up",
        ["a", "hang", "release a"],
    ),
    "task-group": (is_told_to_give_up(), [("0/1", "discarded"), ("0/2", "started")], "gave up", ["hang"]),
    "fail-after": (fails_in_time(), [("0/1", "discarded"), ("0/2", "started")], "gave up", ["hang"]),
}


@pytest.mark.parametrize("name", list(SCOPES))
async def test_what_a_scope_cut_short_is_discarded_and_comes_to_the_same_on_replay(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6.8 The entry is discarded with the cause `body-scope`; a replay waits there until the scope fires."""
    comp, expected, value, performed = SCOPES[name]
    desk = Desk()
    more = [Served.handled_by(serve), counter.handler(0)]
    async with anyio.create_task_group() as group:
        group.start_soon(patience.ends_at, desk.at(performed[1 if len(performed) > 1 else 0]))
        log = suspended(await start(comp, *desk.handlers, *more)).log
    assert states(log) == expected
    assert desk.arrived == performed
    causes = {entry.error.kind for entry in log.entries if entry.error is not UNSET}
    assert causes == {"body-scope"}

    monkeypatch.setattr(patience, "seconds", 0.01)
    again = Desk()
    with anyio.fail_after(5):
        same = suspended(await replay(comp, stored(log), *again.handlers, *more))
        assert same.log.to_json() == log.to_json()
        outcome = completed(await resume(comp, stored(log), *again.handlers, *more, answer=None))
    assert outcome.value == value
    assert again.arrived == []


async def test_a_host_cancel_while_a_replay_waits_for_the_scope() -> None:
    """6.8, 7.7 A host that is cancelled while a replay waits at such an entry leaves the log as it was."""

    @computation(name="scopes:waits")
    async def waits(seconds: float = 0.01) -> Effectful[str]:
        with anyio.move_on_after(seconds if desk.arrived == [] else 60):
            yield Call("hang")
        yield Comment("gave up")
        yield Return("")

    desk = Desk()
    log = suspended(await start(waits(), *desk.handlers)).log
    event = anyio.Event()

    async def later() -> None:
        await anyio.sleep(0.01)
        event.set()

    async with anyio.create_task_group() as group:
        group.start_soon(later)
        again = await host_cancelled(waits(), *desk.handlers, when=event, log=stored(log))
    assert again.to_json() == log.to_json()
    assert desk.arrived == ["hang"]


def in_fail_after() -> Any:
    return anyio.fail_after(3600)


def in_move_on_after() -> Any:
    return anyio.move_on_after(3600)


def in_a_deadline() -> Any:
    return anyio.CancelScope(deadline=anyio.current_time() + 3600)


@pytest.mark.parametrize("scope", [in_fail_after, in_move_on_after, in_a_deadline])
@pytest.mark.parametrize("deep", [False, True], ids=["here", "below"])
async def test_a_deadline_across_a_question_is_refused(scope: Any, deep: bool) -> None:
    """6.8 A deadline that the body holds across a `Yield` is refused at that line, also where a callee asks."""

    @computation
    async def asks() -> Effectful[str]:
        decision = yield Approval("lamp")
        yield Return(decision)

    @computation
    async def holds() -> Effectful[str]:
        with scope():
            decision = yield (asks() if deep else Approval("lamp"))
        yield Return(decision)

    with pytest.raises(DeadlineAcrossYieldError, match=r"Approval is asked at .*test_body_scopes.py:\d+") as caught:
        await start(holds())
    assert caught.value.log.waits == []
    assert caught.value.log.entries == []


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_a_deadline_of_trio_is_refused_as_well() -> None:
    """6.8 An anyio or trio deadline."""

    @computation
    async def holds() -> Effectful[str]:
        with trio.move_on_after(3600):
            decision = yield Approval("lamp")
        yield Return(decision)

    with pytest.raises(DeadlineAcrossYieldError):
        await start(holds())


async def test_a_scope_without_a_deadline_may_be_held() -> None:
    """6.8 Not refused: a scope or a task group without a deadline, nor a deadline of the host around the whole run."""

    @computation
    async def holds() -> Effectful[str]:
        with anyio.CancelScope():
            async with anyio.create_task_group():
                decision = yield Approval("lamp")
        yield Return(decision)

    with anyio.fail_after(60):
        log = suspended(await start(holds())).log
        assert completed(await resume(holds(), log, answer="approved")).value == "approved"


async def test_a_deadline_that_is_over_before_the_question_may_be_held() -> None:
    """6.8 What counts is what is held at the question."""

    @computation
    async def asks_outside() -> Effectful[str]:
        with anyio.fail_after(60):
            yield Call("a")
        decision = yield Approval("lamp")
        with anyio.fail_after(60):
            yield Call("b")
        yield Return(decision)

    desk = Desk()
    log = suspended(await start(asks_outside(), *desk.handlers)).log
    assert completed(await resume(asks_outside(), log, *desk.handlers, answer="approved")).value == "approved"


async def test_a_question_in_a_scope_that_was_cancelled_is_not_asked() -> None:
    """6.8 A question in a scope that the body has cancelled is cut short as any await would be, and leaves no wait."""

    @computation
    async def changes_its_mind() -> Effectful[str]:
        with anyio.CancelScope() as scope:
            scope.cancel()
            yield Approval("lamp")
        yield Call("went on")
        yield Return("went on")

    desk = Desk()
    outcome = completed(await start(changes_its_mind(), *desk.handlers))
    assert outcome.value == "went on"
    assert outcome.log.waits == []
    assert completed(await replay(changes_its_mind(), stored(outcome.log), *desk.handlers)).value == "went on"


async def test_an_answer_that_is_there_needs_no_deadline_check() -> None:
    """6.8 A question that a handler answers does not suspend: a deadline around it is fine."""

    @computation
    async def holds() -> Effectful[str]:
        with anyio.fail_after(60):
            decision = yield Approval("lamp")
        yield Return(decision)

    assert completed(await start(holds(), Approval.always("approved"))).value == "approved"


async def test_a_question_that_the_body_gives_up_while_it_waits() -> None:
    """6.8 In a hot session a scope of the body may give up a parked question: it is discarded, and the run goes on."""
    give_up = anyio.Event()

    @computation
    async def gives_up() -> Effectful[str]:
        decision = "gave up"
        async with anyio.create_task_group() as group:

            async def watch() -> None:
                await give_up.wait()
                group.cancel_scope.cancel()

            group.start_soon(watch)
            decision = yield Approval("lamp")
        yield Call("went on")
        yield Return(decision)

    desk = Desk()
    async with open_session(gives_up(), *desk.handlers) as session:
        suspended(await session.outcome())
        give_up.set()
        await desk.at("went on").wait()
        outcome = completed(await session.outcome())
    assert outcome.value == "gave up"
    assert states(outcome.log) == [("0/1", "discarded"), ("0/2", "executed")]
    assert outcome.log.waits == []
    again = Desk()
    assert completed(await replay(gives_up(), stored(outcome.log), *again.handlers)).value == "gave up"
    assert again.arrived == []


@pytest.mark.parametrize("given_up", [counter.put(3), Fresh.uuid()], ids=["local", "derived"])
async def test_what_a_scope_cut_short_in_an_interceptor(given_up: Effect[Any]) -> None:
    """6.8 A local or derived effect that hangs in an interceptor, until a scope of the body fires, is discarded.

    On replay the strand waits at it, interceptors or none, and the run comes to the same.
    """

    async def hangs(request: Request, perform: Perform) -> Any:
        if request.effect == given_up:
            await anyio.sleep_forever()
        return await perform(request)

    @computation
    async def moves_on() -> Effectful[int]:
        with anyio.move_on_after(0.01):
            yield given_up
        yield Comment("then")
        yield Return((yield counter.get()))

    outcome = suspended(await start(moves_on(), counter.handler(0), intercept=[hangs]))
    assert states(outcome.log) == [("0/1", "discarded"), ("0/2", "started")]
    for options in ({"intercept": [hangs]}, {}):
        ended = await resume(moves_on(), stored(outcome.log), counter.handler(0), answer="go on", **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        assert completed(ended).value == 0
