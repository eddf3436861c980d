"""Promises of concurrency that no test of their own subject covers: each was found by breaking the library."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import anyio
import pytest
from msgspec import UNSET

from skuld_async import (
    AtomicState,
    Clock,
    Effect,
    Effectful,
    Handler,
    Log,
    NotWaitingError,
    Parallel,
    Return,
    TaskCancelledError,
    TimedOut,
    TransientScopeError,
    Won,
    bracket,
    cancel,
    computation,
    fork,
    join,
    lifetime,
    open_session,
    replay,
    rerun,
    start,
    with_timeout,
)
from skuld_async.log.entry import Cancellation
from skuld_async.testing import VirtualClock

from .parts import (
    Ask,
    Call,
    Desk,
    again,
    calls,
    cancelled,
    comes_to_the_same,
    completed,
    counter,
    crash_anywhere,
    failed,
    happened,
    notes,
    states,
    stored,
    suspended,
    tells,
)

DAY = timedelta(days=1)

stock = AtomicState("strands.holes.stock", int)


class Served(Effect[str], frozen=True):
    """Answered by a handler that is concurrent itself."""

    name: str


async def test_a_coroutine_that_swallows_the_end_of_its_time_has_timed_out() -> None:
    """7.8 A body that awaits may return all the same once its time is over: `TimedOut`, and its state is not taken."""
    desk, clock = Desk(), VirtualClock()

    @computation
    async def stubborn() -> str:
        await counter.put(7)
        try:
            await Call("hang")
        except BaseException:  # noqa: BLE001, S110 - the point of the test
            pass
        return "in time, I say"

    @computation
    async def body() -> Effectful[tuple[bool, int]]:
        found = yield with_timeout(stubborn(), DAY)
        yield Return((isinstance(found, TimedOut), (yield counter.get())))

    async with open_session(body(), *desk.handlers, clock.handler()) as session:
        await desk.at("hang").wait()
        clock.advance(DAY)
        outcome = completed(await session.outcome())
    assert outcome.value == (True, 0)
    await comes_to_the_same(body(), outcome, clock.handler())


async def test_less_than_no_time_is_no_time() -> None:
    """7.8 By the system's clock too, what begins when its time is over performs nothing."""
    desk = Desk()
    outcome = completed(await start(with_timeout(calls("a"), timedelta(seconds=-1)), *desk.handlers))
    assert isinstance(outcome.value, TimedOut)
    assert desk.arrived == []
    assert states(outcome.log) == {"0/1": "executed"}


async def test_notes_pass_scopes_between_a_branch_and_their_handler() -> None:
    """What a branch tells is added in whichever scope gathers it, though another scope stands between."""
    desk = Desk()
    comp = Parallel.all(tells("a"), tells("b")).handle(counter.handler(5))
    outcome = completed(await start(comp, *desk.handlers))
    assert outcome.value == (6, 6)
    assert outcome.output(notes) == ["a", "b"]
    assert outcome.output(happened) == ["a", "b"]
    assert outcome.state(counter) == 0
    await comes_to_the_same(comp, outcome)


async def test_a_sleep_that_is_over_leaves_the_run_running() -> None:
    """6.1 The header says how the run stands: suspended in a long sleep, running behind it."""
    desk, clock, log = Desk("after"), VirtualClock(), Log()

    @computation
    async def sleeps() -> Effectful[str]:
        yield Clock.sleep(DAY)
        yield Return((yield Call("after")))

    async with open_session(sleeps(), *desk.handlers, clock.handler(), into=log) as session:
        suspended(await session.outcome())
        found = [log.header.status]
        clock.advance(DAY)
        await desk.at("after").wait()
        found.append(log.header.status)
        desk.let("after")
        completed(await session.outcome())
    assert found == ["suspended", "running"]


async def test_a_wait_of_a_run_that_is_being_cancelled_takes_no_answer() -> None:
    """7.7 Once a cancel is recorded, its waits take no answers, though it was not delivered to them yet."""
    comp = Parallel.all(Ask("a"), Ask("b"))
    log = suspended(await start(comp, *Desk().handlers)).log
    log.header.status, log.header.cancelled = "cancelled", Cancellation("0/1", "enough", ["0/1.1/1", "0/1.2/1"])
    with pytest.raises(NotWaitingError):
        await again(comp, log, *Desk().handlers, answer="yes", to=log.waits[0])


async def test_a_recipe_that_failed_once_may_return_later() -> None:
    """2 Each time a recipe runs it starts from nothing: an error of the first time is none of the second."""
    errors: dict[str, Exception] = {"x": ValueError("down")}
    desk = Desk(errors=errors)
    twice = Parallel.all(Call("x"), Call("y"), settle=True)

    @computation
    async def body() -> Effectful[list[str]]:
        first = yield twice
        errors.clear()
        second = yield twice
        yield Return([repr(one) for one in (*first, *second)])

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == ["ValueError('down')", "'Y'", "'X'", "'Y'"]
    await comes_to_the_same(body(), outcome)


async def test_rerun_takes_up_what_was_stopped_beside_the_failure() -> None:
    """6.7 The sibling that the failure stopped in its call makes that call again, under its own key, and goes on."""
    first = Desk("hang", errors={"bad": ValueError("down")})

    @computation
    async def fails() -> Effectful[str]:
        await first.at("hang").wait()
        yield Return((yield Call("bad")))

    comp = Parallel.all(calls("a", "hang", "b"), fails())
    outcome = failed(await start(comp, *first.handlers, id="r"))
    assert states(outcome.log)["0/1.1/2"] == "discarded"
    second = Desk("hang")
    second.let("hang")
    ended = completed(await rerun(comp, stored(outcome.log), *second.handlers))
    assert ended.value == ("B", "BAD")
    keys = dict(zip(second.arrived, second.keys, strict=True))
    assert keys == {"hang": "r/0/1.1/2", "b": "r/0/1.1/3~1", "bad": "r/0/1.2/1"}


@computation
async def serves_by_a_race(effect: Served) -> Effectful[str]:
    """The loser tells too, and then waits for ever."""

    @computation
    async def loses() -> Effectful[str]:
        yield notes.tell(f"{effect.name} lost")
        yield Return((yield Call("hang")))

    @computation
    async def wins() -> Effectful[str]:
        yield notes.tell(f"{effect.name} won")
        yield Return((yield Call("quick")))

    yield Return((yield Parallel.race(a=loses(), b=wins())).name)


@computation
async def serves_many(effect: Served) -> Effectful[str]:
    def tell(number: int) -> Effect[None]:
        return notes.tell(f"{effect.name} {number}")

    yield Parallel.map(tell, range(1, 13))
    yield Return("all")


@computation
async def tells_and_fails(word: str) -> Effectful[str]:
    yield notes.tell(word)
    yield Call("down")
    raise ValueError(word)


@computation
async def serves_all_the_same(effect: Served) -> Effectful[str]:
    """One of its branches fails, which stops nothing."""
    yield Parallel.all(tells_and_fails(f"{effect.name} failed"), tells(f"{effect.name} returned"), settle=True)
    yield Return("all")


@pytest.mark.parametrize(
    ("handler", "told"),
    [
        (serves_by_a_race, ["x won"]),
        (serves_many, [f"x {number}" for number in range(1, 13)]),
        (serves_all_the_same, ["x returned"]),
    ],
    ids=["race", "map", "settle"],
)
async def test_what_the_branches_of_a_handler_told_is_told_again(handler: Any, told: list[str]) -> None:
    """5.9 A handler is not run on replay: the notes of its branches are there, those of the winner, in their order."""
    served: Handler = Served.handled_by(handler)

    @computation
    async def body() -> Effectful[list[str]]:
        yield Served("x")
        yield Call("then")
        yield Return((yield notes.peek()))

    outcome = completed(await start(body(), *Desk().handlers, served))
    assert outcome.value == told
    await comes_to_the_same(body(), outcome, served)


async def test_a_question_in_branches_of_a_handler_keeps_its_requester_waiting() -> None:
    """7.6 What a handler asks in a branch is refused where the request stands in a scope that does not survive it."""

    @asynccontextmanager
    async def connection() -> AsyncGenerator[Handler]:
        yield counter.handler(0)

    @computation
    async def asks_aside(effect: Served) -> Effectful[str]:
        answers = yield Parallel.all(Ask(effect.name), Call("beside"))
        yield Return(answers[0])

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield Served("x")))

    fragile = body().handle(lifetime(connection, spans_suspension=False))
    with pytest.raises(TransientScopeError):
        await start(fragile, *Desk().handlers, Served.handled_by(asks_aside))


async def test_what_a_task_told_is_added_once() -> None:
    """A task may be joined again: what it told was added the first time."""

    @computation
    async def body() -> Effectful[list[str]]:
        task = yield fork(tells("a"))
        yield join(task)
        yield join(task)
        yield Return((yield notes.peek()))

    assert completed(await crash_anywhere(body(), Desk())).value == ["a"]


async def test_what_a_task_told_is_added_by_a_cancel_that_comes_too_late() -> None:
    """`cancel` of a task that has returned stops nothing, and adds what it told, as a join does."""
    desk = Desk()

    @computation
    async def body() -> Effectful[list[str]]:
        task = yield fork(tells("a"))
        while not task.has_ended:
            await anyio.lowlevel.checkpoint()
        yield cancel(task)
        yield Return((yield notes.peek()))

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == ["a"]
    await comes_to_the_same(body(), outcome)


async def test_a_root_that_awaits_waits_for_its_tasks() -> None:
    """A run whose body is a plain coroutine ends after the tasks that it forked, as one that yields does."""
    desk = Desk()

    @computation
    async def body() -> str:
        await fork(calls("a", "b"))
        return "done"

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == "done"
    assert desk.arrived == ["a", "b"]
    assert set(states(outcome.log).values()) == {"executed"}
    await comes_to_the_same(body(), outcome)


async def test_a_body_that_returns_waits_for_its_tasks() -> None:
    """`Return` is held: what the caller does next comes after the last call of a task that nobody has joined."""
    desk = Desk()

    @computation
    async def forks() -> Effectful[str]:
        yield fork(calls("a", "b", "c"))
        yield Return("done")

    @computation
    async def body() -> Effectful[str]:
        done = yield forks()
        yield Call("next")
        yield Return(done)

    outcome = completed(await start(body(), *desk.handlers))
    assert desk.arrived == ["a", "b", "c", "next"]
    await comes_to_the_same(body(), outcome)


async def test_a_join_of_what_was_cancelled_is_discarded() -> None:
    """6.1 A join that raises has an entry that says so, with its error."""
    desk = Desk()

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(calls("hang"))
        yield cancel(task)
        try:
            yield Return((yield join(task)))
        except TaskCancelledError as error:
            yield Return(repr(error))

    outcome = completed(await start(body(), *desk.handlers))
    joined = outcome.log.entries[-1]
    assert (joined.sig, joined.state) == ("join", "discarded")
    assert joined.error
    assert joined.error.type == "skuld_async._errors:TaskCancelledError"
    await comes_to_the_same(body(), outcome)


async def test_what_was_not_set_is_not_set_by_a_resume() -> None:
    """A `compare_and_set` that has found another value leaves the cell alone, also where the log tells its value."""

    @computation
    async def body() -> Effectful[int]:
        yield stock.put(1)
        yield stock.compare_and_set(5, 6)
        yield Ask("more?")
        yield Return((yield stock.get()))

    outcome = suspended(await start(body(), *Desk().handlers, stock.handler(0)))
    assert outcome.state(stock) == 1
    resumed = suspended(await again(body(), outcome.log, *Desk().handlers, stock.handler(0)))
    assert resumed.state(stock) == 1
    ended = completed(await again(body(), outcome.log, *Desk().handlers, stock.handler(0), answer="yes"))
    assert ended.value == 1


async def test_a_modify_that_raised_is_not_run_again() -> None:
    """What raised is discarded with its error: a replay raises that, and runs the function no more."""
    runs: list[int] = []

    def refuses(value: int) -> int:
        runs.append(value)
        message = "sold out"
        raise ValueError(message)

    @computation
    async def body() -> Effectful[str]:
        try:
            yield stock.modify(refuses)
        except ValueError as error:
            yield Return(f"{error}")

    outcome = completed(await start(body(), *Desk().handlers, stock.handler(3)))
    assert outcome.value == "sold out"
    assert states(outcome.log) == {"0/1": "discarded"}
    await comes_to_the_same(body(), outcome, stock.handler(3))
    assert runs == [3]


async def test_a_task_that_swallows_its_cancel_was_cancelled() -> None:
    """5.8 A body that awaits may return although it was cancelled: it has no value, and what it told is not added."""
    desk = Desk()

    @computation
    async def stubborn() -> str:
        await notes.tell("stubborn")
        try:
            await Call("hang")
        except BaseException:  # noqa: BLE001, S110 - the point of the test
            pass
        return "I have returned"

    @computation
    async def body() -> Effectful[list[str]]:
        task = yield fork(stubborn())
        await desk.at("hang").wait()
        yield cancel(task)
        with pytest.raises(TaskCancelledError):
            yield join(task)
        yield Return((yield notes.peek()))

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == []
    desk.at("hang").set()
    await comes_to_the_same(body(), outcome)


@computation
async def fails_at(name: str) -> Effectful[str]:
    yield Call(name)
    message = f"{name} failed"
    raise ValueError(message)


async def test_an_error_in_a_task_closes_the_question_of_its_activation() -> None:
    """The failure of a task ends the wait of the activation that forked it: no run suspends for an answer to that."""

    @computation
    async def forks() -> Effectful[str]:
        yield fork(fails_at("x"))
        yield Return((yield Ask("a")))

    @computation
    async def body() -> Effectful[str]:
        try:
            yield forks()
        except ValueError as error:
            yield Return(f"{error}")

    outcome = completed(await start(body(), *Desk().handlers))
    assert outcome.value == "x failed"
    assert outcome.log.waits == []
    await comes_to_the_same(body(), outcome)


async def test_an_error_comes_out_behind_the_end_of_the_tasks() -> None:
    """When the error of an activation arrives at its caller, none of its tasks is at work any more."""
    desk, seen = Desk("x"), list[set[str]]()

    @computation
    async def forks() -> Effectful[str]:
        yield fork(calls("x", "y"))
        await desk.at("x").wait()
        message = "enough"
        raise ValueError(message)

    @computation
    async def body() -> Effectful[str]:
        try:
            yield forks()
        except ValueError as error:
            seen.append(set(desk.running))
            desk.let("x")
            yield Return(f"{error}")

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == "enough"
    assert seen == [set()]
    assert desk.arrived == ["x"]


async def test_a_cancel_records_where_each_task_stands() -> None:
    """7.7 The places of a run cancel are those of all strands, tasks too: a resume stops each of them there again."""
    desk = Desk()

    @computation
    async def body() -> Effectful[str]:
        yield fork(calls("a", "hang a"))
        yield Return((yield calls("b", "hang b")))

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("hang a").wait()
        await desk.at("hang b").wait()
        outcome = cancelled(await session.cancel("enough"))
    assert outcome.log.header.cancelled == Cancellation("0/4", "enough", ["0/1.1/2"])
    await comes_to_the_same(body(), outcome)


async def test_what_a_failed_task_refused_is_not_what_a_cancel_refused() -> None:
    """5.3 A cancelled run names what the cancel refused, and not what an activation asked for as its task failed."""
    desk = Desk()

    @computation
    async def forks() -> Effectful[str]:
        yield fork(fails_at("x"))
        try:
            yield Call("hang")
        finally:
            yield Call("late")
        yield Return("never")

    @computation
    async def body() -> Effectful[str]:
        try:
            yield forks()
        except ValueError:
            pass
        yield Return((yield Ask("a")))

    async with open_session(body(), *desk.handlers) as session:
        suspended(await session.outcome())
        outcome = cancelled(await session.cancel("enough"))
    assert "late" not in desk.arrived
    assert outcome.refused == ()


async def test_settled_errors_are_not_pruned() -> None:
    """``prune_branches``: an error that stands beside results is kept with the branch that it came from."""
    desk = Desk(errors={"bad": ValueError("down")})

    @computation
    async def body() -> Effectful[list[str]]:
        found = yield Parallel.all(calls("a"), calls("bad"), settle=True)
        yield Return([repr(one) for one in found])

    outcome = completed(await start(body(), *desk.handlers, prune_branches=True))
    assert outcome.value == ["'A'", "ValueError('down')"]
    resumed = completed(await again(body(), outcome.log, *Desk().handlers, prune_branches=True))
    assert resumed.value == outcome.value


async def test_a_cancelled_map_begins_no_item_in_a_resume() -> None:
    """7.7 Items that had not begun when a map with a limit was cancelled are not begun by whoever delivers that."""
    desk = Desk()
    comp = Parallel.map(calls, ["a", "hang", "b", "c"], limit=1)
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("hang").wait()
        outcome = cancelled(await session.cancel("enough"))
    assert desk.arrived == ["a", "hang"]
    await comes_to_the_same(comp, outcome)
    log = stored(outcome.log)
    for entry in log.entries:
        if entry.error:  # as it was when the cancel was recorded
            entry.state, entry.error = "started", UNSET
    later = Desk()
    delivered = cancelled(await again(comp, log, *later.handlers))
    assert later.arrived == []
    assert delivered.log.to_json() == outcome.log.to_json()


async def test_cleanup_does_not_sleep_for_long() -> None:
    """7.7 A release that would sleep for a day is refused there, and the cancelled run says so."""
    desk, clock = Desk(), VirtualClock()

    @computation
    async def leaves(_: str) -> Effectful[None]:
        yield Call("closing")
        yield Clock.sleep(DAY)
        yield Call("closed")

    comp = Parallel.all(bracket(Call("room"), lambda _: calls("hang"), leaves), calls("hang too"))
    async with open_session(comp, *desk.handlers, clock.handler()) as session:
        await desk.at("hang").wait()
        outcome = cancelled(await session.cancel("enough"))
    assert desk.arrived[-1] == "closing"
    assert [refused.partition(" at ")[0] for refused in outcome.refused] == ["Clock.sleep"]


async def test_a_session_that_is_left_stops_its_tasks() -> None:
    """7.5 Leaving suspends tasks too, wherever they stand: none of them goes on with its next call."""
    desk = Desk("x")

    @computation
    async def body() -> Effectful[str]:
        yield fork(calls("x", "y"))
        try:
            answer = yield Ask("a")
        finally:
            desk.let("x")
        yield Return(answer)

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("x").wait()
    assert desk.arrived == ["x"]
    assert desk.running == set()
    assert states(session.log)["0/2"] == "started"


async def test_nobody_wins_beside_one_that_cannot_go_on() -> None:
    """7.7 A branch that suspends would be stopped by a winner: who has won is left to the session that can do that."""

    @computation
    async def patient() -> Effectful[str]:
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        yield Return("patient")

    comp = Parallel.race(slow=calls("hang"), patient=patient())
    log = completed(await start(comp, *Desk().handlers)).log
    log.header.status, log.header.result, log.entries = "running", UNSET, log.entries[:1]
    log.entries[0].state, log.entries[0].strands = "started", UNSET
    undecided = suspended(await replay(comp, log, *Desk().handlers))
    assert undecided.log.entries[0].strands is UNSET
    outcome = completed(await again(comp, undecided.log, *Desk().handlers))
    assert outcome.value == Won("patient", "patient")
