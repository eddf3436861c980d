"""7.8: timeouts are data. Sleeping, `question.within(...)` and `with_timeout`, before, at and after the deadline."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest

from skuld_async import (
    AnswerError,
    Clock,
    Computation,
    DeclarationError,
    Effectful,
    Handler,
    Log,
    NotWaitingError,
    Parallel,
    Return,
    State,
    TimedOut,
    TooLateError,
    TransientScopeError,
    Yield,
    computation,
    lifetime,
    open_session,
    replay,
    start,
    with_timeout,
)
from skuld_async.testing import VirtualClock, always_cold

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    about,
    again,
    asks,
    calls,
    completed,
    counter,
    failed,
    happened,
    host_cancelled,
    notes,
    states,
    stored,
    suspended,
    tells,
)

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOON = timedelta(milliseconds=1)
MOMENT = timedelta(microseconds=1)


class Opinion(Yield[dict[str, str]], frozen=True):
    """A question whose answer may look like anything."""


class World(Desk):
    """A desk with a clock of its own."""

    def __init__(self, *held: str, errors: dict[str, Exception] | None = None, now: datetime = BEGINNING) -> None:
        super().__init__(*held, errors=errors)
        self.clock = VirtualClock(now)

    @property
    def handlers(self) -> list[Handler]:
        return [*super().handlers, self.clock.handler()]


@computation
async def sleeps(for_: timedelta) -> Effectful[str]:
    yield Call("before")
    yield Clock.sleep(for_)
    yield Call("after")
    yield Return("slept")


@computation
async def asks_within(after: timedelta) -> Effectful[str]:
    answer = yield Ask("a").within(after)
    yield Return(f"timed out at {answer.due}" if isinstance(answer, TimedOut) else answer)


def timed(comp: Computation[Any], after: timedelta = DAY) -> Computation[str]:
    """What `with_timeout` gives, as text, with the state and the notes that are seen behind it."""

    @computation(name="strands:timed")
    async def body() -> Effectful[str]:
        yield counter.put(1)
        found = yield with_timeout(comp, after)
        word = f"timed out at {found.due}" if isinstance(found, TimedOut) else f"{found}"
        yield Return(f"{word}, {yield counter.get()}, {yield notes.peek()}")

    return body()


# -- sleep -----------------------------------------------------------------------------------------------------------


async def test_a_long_sleep_suspends() -> None:
    """7.4 A run that sleeps longer than it lingers suspends; the outcome says when to resume it."""
    world = World()
    outcome = suspended(await start(sleeps(DAY), *world.handlers))
    assert outcome.wake_at == BEGINNING + DAY
    assert outcome.waits == ()
    assert outcome.log.header.status == "suspended"
    assert world.arrived == ["before"]
    with pytest.raises(Exception, match=r"it sleeps until 2000-01-02 00:00:00\+00:00; resume"):
        outcome.value  # noqa: B018 - a property that raises


@pytest.mark.parametrize(("late", "wakes"), [(-MOMENT, False), (timedelta(), True), (MOMENT, True), (365 * DAY, True)])
async def test_resume_of_a_sleep(late: timedelta, wakes: bool) -> None:
    """7.8 Resumed before its time it suspends again, with the same time; at it and after it, it goes on."""
    world = World()
    log = suspended(await start(sleeps(DAY), *world.handlers)).log
    later = World(now=BEGINNING + DAY + late)
    outcome = await again(sleeps(DAY), log, *later.handlers)
    if wakes:
        assert completed(outcome).value == "slept"
        assert later.arrived == ["after"]
    else:
        assert suspended(outcome).wake_at == BEGINNING + DAY
        assert outcome.log.to_json() == log.to_json()
        assert later.arrived == []


async def test_the_deadline_is_fixed_at_the_first_arrival() -> None:
    """7.8 The deadline is fixed when the wait starts and survives restarts: neither they nor the code begin it anew."""
    duration = DAY

    @computation
    async def waits() -> Effectful[str]:
        yield Clock.sleep(duration)
        yield Return("slept")

    world = World()
    log = suspended(await start(waits(), *world.handlers)).log
    duration = 5 * DAY
    for _ in range(3):
        world.clock.advance(6 * HOUR)
        outcome = suspended(await again(waits(), log, *world.handlers))
        assert outcome.wake_at == BEGINNING + DAY
        log = outcome.log
    world.clock.advance(6 * HOUR)
    assert completed(await again(waits(), log, *world.handlers)).value == "slept"


async def test_a_sleep_in_an_open_session() -> None:
    """A hot run sleeps in its task, and goes on when the clock says so."""
    world = World()
    async with open_session(sleeps(DAY), *world.handlers) as session:
        assert suspended(await session.outcome()).wake_at == BEGINNING + DAY
        world.clock.advance(DAY - MOMENT)
        assert isinstance(suspended(await session.outcome()).wake_at, datetime)
        world.clock.advance(MOMENT)
        outcome = completed(await session.outcome())
    assert world.arrived == ["before", "after"]
    assert outcome.log.header.status == "completed"


async def test_a_replay_sleeps_no_more() -> None:
    """A sleep that is over takes no time on a replay, whatever the clock says."""
    world = World()
    async with open_session(sleeps(DAY), *world.handlers) as session:
        await session.outcome()
        world.clock.advance(DAY)
        log = completed(await session.outcome()).log
    early = World(now=BEGINNING - DAY)
    assert completed(await replay(sleeps(DAY), stored(log), *early.handlers)).value == "slept"
    assert completed(await again(sleeps(DAY), log, *early.handlers)).log.to_json() == log.to_json()


async def test_no_time_at_all() -> None:
    """A sleep of no time, or of less, is over at once."""
    for none in (timedelta(), -DAY):
        assert completed(await start(sleeps(none), *World().handlers)).value == "slept"


async def test_several_sleeps_side_by_side() -> None:
    """7.4 With several sleeps the next one that is over says when to resume; each goes on in its own time."""
    comp = Parallel.all(sleeps(3 * HOUR), sleeps(HOUR), sleeps(2 * HOUR))
    world = World()
    outcome: Any = await start(comp, *world.handlers)
    for hours in (1, 2, 3):
        assert suspended(outcome).wake_at == BEGINNING + hours * HOUR
        world.clock.advance(HOUR)
        outcome = await again(comp, outcome.log, *world.handlers)
        assert world.arrived.count("after") == hours
    assert completed(outcome).value == ("slept",) * 3
    assert world.arrived.count("before") == 3


async def test_a_sleep_beside_work() -> None:
    """7.4 A run does not suspend while a strand can move, though another sleeps."""
    world = World("x")
    async with open_session(Parallel.all(sleeps(DAY), calls("x", "y")), *world.handlers) as session:
        await world.at("x").wait()
        while len(session.log.entries) < 4:
            await anyio.lowlevel.checkpoint()
        assert session.log.header.status == "running"
        world.let("x")
        suspended(await session.outcome())
    assert "y" in world.arrived


# -- linger ----------------------------------------------------------------------------------------------------------


async def test_a_short_sleep_is_waited_for() -> None:
    """`linger`: what is over within a second is waited for in the process; `start` does not suspend for it."""
    outcome = completed(await start(sleeps(SOON), *Desk().handlers))
    assert outcome.value == "slept"
    assert outcome.log.entries[1].deadline


async def test_how_long_a_run_lingers_is_an_option() -> None:
    """`linger=timedelta(0)`: each sleep suspends; a long one is not waited for unless it is told to linger."""
    desk = Desk()
    outcome = suspended(await start(sleeps(SOON), *desk.handlers, linger=timedelta(0)))
    assert desk.arrived == ["before"]
    while outcome.wake_at is not None and datetime.now(UTC) < outcome.wake_at:  # noqa: ASYNC110 - the clock itself
        await anyio.sleep(0.001)
    assert completed(await again(sleeps(SOON), outcome.log, *desk.handlers, linger=timedelta(0))).value == "slept"
    assert suspended(await start(sleeps(HOUR), *desk.handlers)).wake_at
    tenth = timedelta(milliseconds=10)
    assert suspended(await start(sleeps(tenth), *desk.handlers, linger=SOON)).wake_at
    assert completed(await start(sleeps(tenth), *desk.handlers, linger=DAY)).value == "slept"


async def test_a_short_timeout_is_waited_for() -> None:
    """`linger` holds for timeouts too: the question waits in the process until its short time is over."""
    outcome = completed(await start(asks_within(SOON)))
    assert outcome.value.startswith("timed out at")
    value = completed(await start(timed(Ask("a"), SOON), *Desk().handlers)).value  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert value.startswith("timed out at")


# -- question.within -------------------------------------------------------------------------------------------------


async def test_a_question_with_a_time() -> None:
    """`within`: the deadline stands with the wait, and says when to resume."""
    world = World()
    outcome = suspended(await start(asks_within(DAY), *world.handlers))
    assert outcome.wake_at == BEGINNING + DAY
    assert [wait.deadline for wait in outcome.waits] == [BEGINNING + DAY]
    assert [wait.deadline for wait in stored(outcome.log).waits] == [BEGINNING + DAY]


@pytest.mark.parametrize("late", [timedelta(), MOMENT, 100 * DAY])
async def test_no_answer_in_time(late: timedelta) -> None:
    """7.8 Resumed without an answer: before the deadline it waits on; at it and after it, `TimedOut` is the answer."""
    log = suspended(await start(asks_within(DAY), *World().handlers)).log
    early = World(now=BEGINNING + DAY - MOMENT)
    outcome = suspended(await again(asks_within(DAY), log, *early.handlers))
    assert outcome.log.to_json() == log.to_json()
    world = World(now=BEGINNING + DAY + late)
    ended = completed(await again(asks_within(DAY), log, *world.handlers))
    assert ended.value == f"timed out at {BEGINNING + DAY}"
    assert ended.log.waits == []
    assert completed(await replay(asks_within(DAY), stored(ended.log), *World().handlers)).value == ended.value


async def test_an_answer_in_time() -> None:
    """7.8 An answer that comes before the deadline counts, by the last moment."""
    log = suspended(await start(asks_within(DAY), *World().handlers)).log
    world = World(now=BEGINNING + DAY - MOMENT)
    ended = completed(await again(asks_within(DAY), log, *world.handlers, answer="yes"))
    assert ended.value == "yes"
    late = World(now=BEGINNING + 10 * DAY)
    assert completed(await replay(asks_within(DAY), stored(ended.log), *late.handlers)).value == "yes"


@pytest.mark.parametrize("late", [timedelta(), MOMENT])
async def test_a_late_answer_is_refused(late: timedelta) -> None:
    """7.8 An answer at the deadline or later is refused, nothing is consumed, and the way out goes on."""
    log = suspended(await start(asks_within(DAY), *World().handlers)).log
    world = World(now=BEGINNING + DAY + late)
    with pytest.raises(TooLateError, match=r"was over at 2000-01-02 00:00:00\+00:00") as caught:
        await again(asks_within(DAY), log, *world.handlers, answer="yes")
    assert len(caught.value.log.waits) == 1
    ended = completed(await again(asks_within(DAY), caught.value.log, *world.handlers))
    assert ended.value.startswith("timed out")


async def test_a_bad_answer_leaves_the_deadline() -> None:
    """7.2 A refused answer leaves the wait open, with the time that it had."""
    log = suspended(await start(asks_within(DAY), *World().handlers)).log
    with pytest.raises(AnswerError) as caught:
        await again(asks_within(DAY), log, *World().handlers, answer=1)
    assert [wait.deadline for wait in caught.value.log.waits] == [BEGINNING + DAY]


@pytest.mark.parametrize("first", ["answer", "time"])
async def test_answer_and_time_race_in_an_open_session(first: str) -> None:
    """7.8 Answer and timer race: one of both settles the wait, and what comes second changes nothing."""
    world = World()
    async with open_session(asks_within(DAY), *world.handlers) as session:
        suspended(await session.outcome())
        wait = session.log.waits[0]
        if first == "answer":
            await session.answer("yes", to=wait)
            world.clock.advance(2 * DAY)
        else:
            world.clock.advance(2 * DAY)
            with pytest.raises(AnswerError):
                await session.answer("yes", to=wait)
        outcome = completed(await session.outcome())
    assert outcome.value == ("yes" if first == "answer" else f"timed out at {BEGINNING + DAY}")
    assert completed(await replay(asks_within(DAY), stored(outcome.log), *World().handlers)).value == outcome.value


async def test_a_question_that_timed_out_cannot_be_answered_any_more() -> None:
    """7.3 The wait is gone: an answer that names it is refused."""
    world = World()

    @computation
    async def twice() -> Effectful[str]:
        yield Ask("a").within(HOUR)
        yield Return((yield Ask("b")))

    first = suspended(await start(twice(), *world.handlers))
    world.clock.advance(HOUR)
    second = suspended(await again(twice(), first.log, *world.handlers))
    assert about(second) == ["b"]
    with pytest.raises(AnswerError):
        await again(twice(), second.log, *world.handlers, answer="late", to=first.waits[0])
    ended = completed(await again(twice(), second.log, *world.handlers, answer="in time"))
    with pytest.raises(NotWaitingError):
        await again(twice(), ended.log, *world.handlers, answer="too late")


async def test_no_answer_can_be_mistaken_for_a_timeout() -> None:
    """7.8 `TimedOut` is a value that no answer can be mistaken for, not even one that looks like it."""

    @computation
    async def opinion() -> Effectful[str]:
        answer = yield Opinion().within(DAY)
        yield Return(f"{type(answer).__name__}")

    outcome = suspended(await start(opinion(), *World().handlers))
    answer = {"due": f"{BEGINNING + DAY}"}
    ended = completed(await again(opinion(), outcome.log, *World().handlers, answer=answer))
    assert ended.value == "dict"
    assert completed(await replay(opinion(), stored(ended.log), *World().handlers)).value == "dict"


async def test_a_name_and_a_time() -> None:
    """7.1 Options are methods: they may be combined, in any order, and are no part of the question."""

    @computation
    async def both() -> Effectful[str]:
        one = yield Ask("a").named("first").within(DAY)
        yield Return(f"{one}")

    outcome = suspended(await start(both(), *World().handlers))
    assert [(wait.name, wait.deadline) for wait in outcome.waits] == [("first", BEGINNING + DAY)]
    plain = suspended(await start(asks_within(DAY), *World().handlers))
    assert plain.waits[0].digest == outcome.waits[0].digest
    assert completed(await again(both(), outcome.log, *World().handlers, answer="yes")).value == "yes"


async def test_a_handler_answers_a_question_with_a_time() -> None:
    """A handler in scope answers in the place of the outside, and no time is kept."""
    outcome = completed(await start(asks_within(DAY), Ask.always("yes"), *World().handlers))
    assert outcome.value == "yes"


# -- with_timeout ----------------------------------------------------------------------------------------------------


async def test_what_returns_in_time_is_the_value() -> None:
    """`with_timeout` gives what the computation returns; its state and its notes are kept."""
    world = World()
    outcome = completed(await start(timed(tells("a", "b")), *world.handlers))
    assert outcome.value == "3, 3, ['a', 'b']"
    assert outcome.output(happened) == ["a", "b"]
    entry = next(one for one in outcome.log.entries if one.sig == "with_timeout")
    assert entry.deadline == BEGINNING + DAY
    late = World(now=BEGINNING + 10 * DAY)
    assert completed(await replay(timed(tells("a", "b")), stored(outcome.log), *late.handlers)).value == outcome.value


async def test_what_takes_too_long_is_stopped() -> None:
    """`TimedOut` is given, the call is cut off, cleanup is done; state and notes are what they were before."""

    @computation
    async def slow() -> Effectful[None]:
        yield tells("a")
        yield Call("hang")

    world = World()
    comp = timed(slow().ensure(Release("slow")))
    async with open_session(comp, *world.handlers) as session:
        await world.at("hang").wait()
        world.clock.advance(DAY)
        outcome = completed(await session.outcome())
    assert outcome.value == f"timed out at {BEGINNING + DAY}, 1, []"
    assert outcome.output(happened) == []
    assert world.arrived == ["a", "hang", "release slow"]
    assert world.running == set()
    again_ = World(now=BEGINNING - DAY)
    assert completed(await again(comp, outcome.log, *again_.handlers)).log.to_json() == outcome.log.to_json()
    assert again_.arrived == []


@pytest.mark.parametrize("late", [-MOMENT, timedelta(), MOMENT])
async def test_a_timeout_around_a_question(late: timedelta) -> None:
    """7.8 A computation that waits is stopped at the deadline, in whatever process that is; before it, it waits on."""
    comp = timed(asks("a").ensure(Release("a")))
    first = World()
    log = suspended(await start(comp, *first.handlers)).log
    world = World(now=BEGINNING + DAY + late)
    outcome = await again(comp, log, *world.handlers)
    if late < timedelta():
        assert suspended(outcome).wake_at == BEGINNING + DAY
        assert world.arrived == []
        return
    assert completed(outcome).value == f"timed out at {BEGINNING + DAY}, 1, []"
    assert world.arrived == ["release a"]
    assert outcome.log.waits == []
    replayed = completed(await replay(comp, stored(outcome.log), *World().handlers))
    assert replayed.log.to_json() == outcome.log.to_json()


async def test_a_late_answer_inside_a_timeout() -> None:
    """7.8 An answer that comes when the time around its question is over is refused, and is not lost in silence."""
    comp = timed(asks("a").ensure(Release("a")))
    log = suspended(await start(comp, *World().handlers)).log
    world = World(now=BEGINNING + DAY)
    with pytest.raises(TooLateError) as caught:
        await again(comp, log, *world.handlers, answer="yes")
    assert world.arrived == []
    assert caught.value.log.to_json() == log.to_json()
    assert completed(await again(comp, caught.value.log, *world.handlers)).value.startswith("timed out")
    assert world.arrived == ["release a"]


async def test_an_answer_in_time_inside_a_timeout() -> None:
    """7.8 An answer that comes in time counts, and what follows has the rest of the time."""
    comp = timed(Parallel.all(asks("a"), asks("b")))
    log = suspended(await start(comp, *World().handlers)).log
    world = World(now=BEGINNING + DAY - MOMENT)
    answers = {wait.ref: "yes" for wait in log.waits}
    outcome = completed(await again(comp, log, *world.handlers, answers=answers))
    assert outcome.value == "('a: yes', 'b: yes'), 1, []"


async def test_what_was_done_in_time_counts() -> None:
    """A crash behind the last call: the resume comes too late, but all that was to be done was done in time."""
    comp = timed(calls("a", "b"))
    log = completed(await start(comp, *World().handlers)).log
    crashed = stored(log)
    index = next(index for index, entry in enumerate(crashed.entries) if entry.sig == "with_timeout")
    team = crashed.entries[index]
    crashed.entries[index] = type(team)(team.id, team.sig, team.data, "started", deadline=team.deadline)
    del crashed.entries[index + 3 :]
    crashed.header.status, crashed.header.result = "running", Log().header.result
    world = World(now=BEGINNING + 2 * DAY)
    assert completed(await again(comp, crashed, *world.handlers)).value == "B, 1, []"
    assert world.arrived == []


async def test_a_crash_in_the_middle_and_a_late_resume() -> None:
    """A call that was out at the crash is not tried again once the time is over; the cleanup is done."""
    comp = timed(calls("a", "hang", "c").ensure(Release("x")))
    world = World()
    log = await host_cancelled(comp, *world.handlers, when=world.at("hang"))
    late = World(now=BEGINNING + 2 * DAY)
    outcome = completed(await again(comp, log, *late.handlers))
    assert outcome.value == f"timed out at {BEGINNING + DAY}, 1, []"
    assert late.arrived == ["release x"]
    assert "started" not in states(outcome.log).values()
    assert completed(await replay(comp, stored(outcome.log), *World().handlers)).value == outcome.value
    early = World(now=BEGINNING + HOUR)
    assert completed(await again(timed(calls("a", "hang", "c")), fixed(log), *early.handlers)).value == "C, 1, []"


def fixed(log: Log) -> Log:
    """*log* of the same calls, with a receiver that no longer hangs."""
    own = stored(log)
    for index, entry in enumerate(own.entries):
        if bytes(entry.data) == b'{"name":"hang"}':
            own.entries[index] = type(entry)(
                entry.id, entry.sig, entry.data, "executed", value=type(entry.value)(b'"H"')
            )
    return own


@pytest.mark.parametrize(("inner", "outer"), [(HOUR, DAY), (DAY, HOUR)], ids=["inner-first", "outer-first"])
async def test_timeouts_in_timeouts(inner: timedelta, outer: timedelta) -> None:
    """Whichever deadline comes first counts; the outer one stops the inner one with all that it holds."""

    @computation
    async def slow() -> Effectful[str]:
        found = yield with_timeout(calls("hang").ensure(Release("slow")), inner)
        yield Return("inner" if isinstance(found, TimedOut) else "nobody")

    world = World()
    async with open_session(timed(slow(), outer), *world.handlers) as session:
        await world.at("hang").wait()
        world.clock.advance(min(inner, outer))
        outcome = completed(await session.outcome())
    assert outcome.value.startswith("inner," if inner < outer else "timed out")
    assert world.arrived == ["hang", "release slow"]
    later = World()
    assert completed(await again(timed(slow(), outer), outcome.log, *later.handlers)).value == outcome.value
    assert later.arrived == []


async def test_an_error_in_time() -> None:
    """An error passes through `with_timeout` as it is."""
    error = ValueError("bad")
    outcome = failed(await start(timed(calls("bad")), *World(errors={"bad": error}).handlers))
    assert repr(outcome.error) == repr(error)
    replayed = failed(await replay(timed(calls("bad")), stored(outcome.log), *World().handlers))
    assert repr(replayed.error) == repr(error)


async def test_one_that_returns_all_the_same() -> None:
    """A computation that swallows being stopped and returns has timed out, now and on replay; state is untouched."""

    @computation
    async def stubborn() -> Effectful[str]:
        yield counter.put(7)
        try:
            yield Call("hang")
        except BaseException:  # noqa: BLE001, S110 - the point of the test
            pass
        yield Return("in time, I say")

    world = World()
    async with open_session(timed(stubborn()), *world.handlers) as session:
        await world.at("hang").wait()
        world.clock.advance(DAY)
        outcome = completed(await session.outcome())
    assert outcome.value == f"timed out at {BEGINNING + DAY}, 1, []"
    assert completed(await replay(timed(stubborn()), stored(outcome.log), *World().handlers)).value == outcome.value


async def test_no_time_is_no_time() -> None:
    """A timeout that is over before it begins performs nothing."""
    world = World()
    outcome = completed(await start(timed(calls("a"), timedelta()), *world.handlers))
    assert outcome.value.startswith("timed out")
    assert world.arrived == []


async def test_a_mere_effect_with_a_time() -> None:
    """`with_timeout` takes effects too: a call, or a question that has no time of its own."""
    comp = with_timeout(Ask("a"), DAY)
    world = World()
    outcome = suspended(await start(comp, *world.handlers))
    assert completed(await again(comp, outcome.log, *world.handlers, answer="yes")).value == "yes"
    world.clock.advance(DAY)
    ended = completed(await again(comp, outcome.log, *world.handlers))
    assert ended.value == TimedOut(BEGINNING + DAY)
    assert completed(await start(with_timeout(Call("x"), DAY), *world.handlers)).value == "X"


async def test_what_is_no_time_is_refused_at_once() -> None:
    """A number is no time span: refused where it is given."""
    for make in (lambda: Clock.sleep(1), lambda: Ask("a").within(1), lambda: with_timeout(Call("a"), 1)):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(DeclarationError, match="give a timedelta"):
            make()


async def test_a_long_sleep_in_what_does_not_survive_it_is_refused() -> None:
    """7.6 A scope that does not span a suspension refuses a sleep beyond `linger` at that line; a short one may be."""
    gauge = State("strands.gauge", int)

    @asynccontextmanager
    async def connection() -> AsyncGenerator[Handler]:
        yield gauge.handler(0)

    def scoped(after: timedelta) -> Computation[str]:
        return sleeps(after).handle(lifetime(connection, spans_suspension=False))

    with pytest.raises(TransientScopeError):
        await start(scoped(HOUR), *Desk().handlers)
    assert completed(await start(scoped(SOON), *Desk().handlers)).value == "slept"


async def test_always_cold() -> None:
    """7 Sleeps, timeouts and questions with a time come to the same, stopped and resumed at every effect."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield Clock.sleep(HOUR)
        one = yield with_timeout(tells("a", "b"), DAY)
        two = yield with_timeout(Clock.sleep(2 * DAY), DAY)
        three = yield Ask("x").within(DAY)
        yield Return([f"{one}", f"{two}", f"{three}"])

    outcome = completed(await always_cold(body(), *Desk().handlers, answer=lambda _: "yes"))
    assert outcome.value == ["2", f"TimedOut(due={BEGINNING + DAY + HOUR!r})", "yes"]
