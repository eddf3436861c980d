"""`Parallel.race`: who returns first has won, now and on every replay."""

from datetime import timedelta

import anyio
import pytest

from skuld_async import (
    Clock,
    DeclarationError,
    Effectful,
    Log,
    Parallel,
    Return,
    Won,
    bracket,
    computation,
    open_session,
    replay,
    start,
)
from skuld_async.testing import VirtualClock

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    about,
    again,
    asks,
    calls,
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


@computation
async def after(*names: str) -> Effectful[str]:
    """Returns once a hanging call beside it is out."""
    for name in names:
        yield Call(name)
    yield Return(f"after {names[-1]}")


@pytest.mark.parametrize("winner", ["first", "second"])
async def test_who_returns_first_has_won(winner: str) -> None:
    """The first branch that returns gives the race its value, under its name, wherever it stands."""
    slow = calls("hang")
    comp = Parallel.race(**{name: after("x") if name == winner else slow for name in ("first", "second")})
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == Won(winner, "after x")
    await comes_to_the_same(comp, outcome)


async def test_the_losers_are_stopped_with_their_cleanup() -> None:
    """Losers are cancelled, their brackets are released, what they were at is discarded; all before the race ends."""
    desk = Desk("x")

    @computation
    async def body() -> Effectful[str]:
        won = yield Parallel.race(
            slow=bracket(Call("room"), lambda _: calls("hang"), Release).ensure(Release("door")), quick=calls("x")
        )
        yield Call("then")
        yield Return(won.name)

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("hang").wait()
        desk.let("x")
        outcome = completed(await session.outcome())
    assert outcome.value == "quick"
    assert desk.arrived[-3:] == ["release ROOM", "release door", "then"]
    assert desk.running == set()
    entries = {entry.id: entry for entry in outcome.log.entries}
    stopped = next(entry for entry in entries.values() if b"hang" in bytes(entry.data))
    assert stopped.state == "discarded"
    assert stopped.error
    assert {entry.state for entry in entries.values() if entry is not stopped} == {"executed"}
    await comes_to_the_same(body(), outcome)


async def test_the_recorded_winner_wins_on_every_replay() -> None:
    """The recorded winner of a race wins on every replay, though the other branch would be faster by now."""
    desk = Desk("x", "y")
    comp = Parallel.race(a=calls("x"), b=calls("y"))
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("x").wait()
        await desk.at("y").wait()
        desk.let("y")
        outcome = completed(await session.outcome())
    assert outcome.value == Won("b", "Y")
    assert completed(await replay(comp, stored(outcome.log), *Desk().handlers)).value == Won("b", "Y")
    await comes_to_the_same(comp, outcome)


async def test_the_winner_is_written_before_a_loser_is_stopped() -> None:
    """What is decided stands in the log before any branch is stopped: a body that is being stopped sees it there."""
    seen: list[str | None] = []
    log = Log()

    @computation
    async def looks() -> Effectful[str]:
        try:
            yield Call("hang")
        finally:
            decided = log.entries[0].strands
            seen.append(decided.won if decided else None)
        yield Return("never")

    completed(await start(Parallel.race(slow=looks(), quick=calls("x")), *Desk().handlers, into=log))
    assert seen == ["quick"]


async def test_a_loser_that_returns_all_the_same_has_not_won() -> None:
    """A loser that swallows its cancellation and returns changes nothing."""

    @computation
    async def stubborn() -> Effectful[str]:
        for _ in range(3):
            try:
                yield Call("hang")
            except BaseException:  # noqa: BLE001, S110 - the point of the test
                pass
        yield Return("I have won")

    comp = Parallel.race(stubborn=stubborn(), quick=calls("x"))
    desk = Desk()
    outcome = completed(await start(comp, *desk.handlers))
    assert outcome.value == Won("quick", "X")
    assert sorted(desk.arrived) == ["hang", "x"]
    await comes_to_the_same(comp, outcome)


async def test_a_question_against_another() -> None:
    """The answered question has won; the wait of the other is gone, and it cannot be answered any more."""
    comp = Parallel.race(ask=Ask("a"), other=asks("b"))
    outcome = suspended(await start(comp, *Desk().handlers))
    assert about(outcome) == ["a", "b"]
    wait = next(wait for wait in outcome.waits if wait.id.endswith("ask/1"))
    desk = Desk()
    ended = completed(await again(comp, outcome.log, *desk.handlers, answer="yes", to=wait))
    assert ended.value == Won("ask", "yes")
    assert ended.log.waits == []
    assert states(ended.log)["0/1.other/2"] == "discarded"
    assert desk.arrived == []
    await comes_to_the_same(comp, ended)


async def test_a_question_against_the_clock() -> None:
    """A manager's decision against three days, in the log as `Won`: whichever comes first."""
    for days, winner in ((1, "decided"), (3, "expired")):
        clock = VirtualClock()
        comp = Parallel.race(decided=Ask("order"), expired=Clock.sleep(timedelta(days=3)))
        outcome = suspended(await start(comp, clock.handler()))
        assert outcome.wake_at == clock.now + timedelta(days=3)
        clock.advance(timedelta(days=days))
        if winner == "decided":
            ended = completed(await again(comp, outcome.log, clock.handler(), answer="yes"))
        else:
            ended = completed(await again(comp, outcome.log, clock.handler()))
        assert ended.value == Won(winner, "yes" if winner == "decided" else None)
        assert completed(await replay(comp, stored(ended.log), clock.handler())).value == ended.value


async def test_only_the_winner_tells() -> None:
    """Notes and events of the winner are added; of losers nothing, though they told before; the same after a replay."""
    desk = Desk("a")

    @computation
    async def body() -> Effectful[list[str]]:
        yield notes.tell("before")
        yield counter.put(10)
        won = yield Parallel.race(slow=tells("b", "hang"), quick=tells("a"))
        assert won == Won("quick", 11)
        assert (yield counter.get()) == 10
        yield Return((yield notes.peek()))

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("hang").wait()
        desk.let("a")
        outcome = completed(await session.outcome())
    assert outcome.value == ["before", "a"]
    assert outcome.output(happened) == ["a"]
    await comes_to_the_same(body(), outcome)


async def test_an_error_is_no_win() -> None:
    """A branch that fails stops the race: the others are stopped, and its error arrives at the `yield`."""
    desk = Desk(errors={"x": ValueError("broken")})
    comp = Parallel.race(bad=calls("x"), slow=calls("hang").ensure(Release("door")))
    outcome = failed(await start(comp, *desk.handlers))
    assert repr(outcome.error) == "ValueError('broken')"
    assert outcome.log.header.cause == "0/1.bad/1"
    await comes_to_the_same(comp, outcome)


async def test_an_error_in_the_cleanup_of_a_loser_is_not_lost() -> None:
    """A loser whose cleanup fails makes the race fail, on each replay too: an error never passes in silence."""
    desk = Desk(errors={"release door": ValueError("jammed")})
    comp = Parallel.race(quick=calls("x"), slow=calls("hang").ensure(Release("door")))
    outcome = failed(await start(comp, *desk.handlers))
    assert repr(outcome.error) == "ValueError('jammed')"
    await comes_to_the_same(comp, outcome)


async def test_races_within_races() -> None:
    """A loser may hold branches of its own: all of them are stopped, and each cleanup is performed once."""
    desk = Desk("x")
    inner = Parallel.race(a=calls("hang 1").ensure(Release("a")), b=calls("hang 2").ensure(Release("b")))
    comp = Parallel.race(
        quick=calls("x"), race=inner, both=Parallel.all(calls("hang 3").ensure(Release("c")), Call("y"))
    )
    async with open_session(comp, *desk.handlers) as session:
        for number in (1, 2, 3):
            await desk.at(f"hang {number}").wait()
        await desk.at("y").wait()
        desk.let("x")
        outcome = completed(await session.outcome())
    assert outcome.value.name == "quick"
    assert sorted(name for name in desk.arrived if name.startswith("release")) == [
        "release a",
        "release b",
        "release c",
    ]
    assert "started" not in states(outcome.log).values()
    await comes_to_the_same(comp, outcome)


async def test_one_alone_has_won() -> None:
    """One branch races against nobody."""
    outcome = completed(await start(Parallel.race(only=calls("x")), *Desk().handlers))
    assert outcome.value == Won("only", "X")
    assert list(states(outcome.log)) == ["0/1", "0/1.only/1"]


async def test_one_that_returns_at_once() -> None:
    """A branch that returns without any request wins before the others have begun, or stops them where they are."""

    @computation
    async def at_once() -> Effectful[str]:
        yield Return("at once")

    comp = Parallel.race(now=at_once(), slow=calls("hang"), late=asks("a"))
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == Won("now", "at once")
    await comes_to_the_same(comp, outcome)


async def test_what_cannot_race_is_refused_at_once() -> None:
    """Nobody, or what is no computation, is refused where it is given."""
    with pytest.raises(DeclarationError, match="nobody runs"):
        Parallel.race()
    with pytest.raises(DeclarationError, match="names cannot hold"):
        Parallel.race(**{"a/b": Call("a")})
    with pytest.raises(DeclarationError, match="neither a computation nor an effect"):
        Parallel.race(a=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@computation
async def decides() -> Effectful[list[str]]:
    won = yield Parallel.race(a=calls("x", "y").ensure(Release("x")), b=asks("never").ensure(Release("b")))
    yield Call("then")
    yield Return([won.name, won.value])


async def test_a_crash_anywhere_gives_the_same_winner() -> None:
    """A crash at any moment of a race: the same winner, losers cleaned up, and no settled call made again."""
    outcome = completed(await crash_anywhere(decides(), Desk()))
    assert outcome.value == ["a", "Y"]


async def test_losers_are_not_run_again() -> None:
    """A replay runs the winner alone: a loser's code is not entered any more."""
    entered: list[str] = []

    @computation
    async def loser() -> Effectful[str]:
        entered.append("loser")
        yield Return((yield Call("hang")))

    desk = Desk("x")
    comp = Parallel.race(slow=loser(), quick=calls("x"))
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("hang").wait()
        desk.let("x")
        outcome = completed(await session.outcome())
    await comes_to_the_same(comp, outcome)
    assert entered == ["loser"]


async def test_a_winner_while_a_loser_awaits_something_of_its_own() -> None:
    """A loser in an await of its own body is stopped there as well, with its `finally`."""
    left: list[str] = []

    @computation
    async def idles() -> Effectful[str]:
        yield Call("idle")
        desk.let("x")
        try:
            await anyio.sleep_forever()
        finally:
            left.append("idles")
        yield Return("")

    desk = Desk("x")
    comp = Parallel.race(idle=idles().ensure(Release("idle")), quick=calls("x"))
    outcome = completed(await start(comp, *desk.handlers))
    assert outcome.value.name == "quick"
    assert left == ["idles"]
    assert sorted(desk.arrived[:2]) == ["idle", "x"]
    assert desk.arrived[2:] == ["release idle"]
    await comes_to_the_same(comp, outcome)
