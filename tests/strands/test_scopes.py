"""Handlers, scopes, lifetimes and transactions, inside branches and around them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any

import anyio
import pytest

from skuld_async import (
    Clock,
    Computation,
    Effect,
    Effectful,
    Handler,
    Observation,
    Parallel,
    Return,
    Throw,
    Transaction,
    TransientScopeError,
    Won,
    Yield,
    computation,
    lifetime,
    open_session,
    replay,
    rollback,
    start,
    transact,
    with_timeout,
)
from skuld_async.testing import VirtualClock, always_cold

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    asks,
    calls,
    completed,
    counter,
    crash_anywhere,
    failed,
    host_cancelled,
    ids,
    notes,
    states,
    stored,
    suspended,
    tells,
)

HOUR = timedelta(hours=1)


class Served(Effect[str], frozen=True):
    """Answered by a handler that requests effects itself."""

    name: str


class Consult(Yield[str], frozen=True):
    about: str


@computation
async def serves(effect: Served) -> Effectful[str]:
    """Adds, tells and calls, in the name of whoever asked."""
    yield counter.modify(lambda value: value + 1)
    yield notes.tell(effect.name)
    answer = yield Call(effect.name)
    yield Return(f"{answer} {yield counter.get()}")


@computation
async def serves_side_by_side(effect: Served) -> Effectful[str]:
    """Opens branches of its own."""
    yield notes.tell(f"<{effect.name}")
    one, two = yield Parallel.all(tells(f"{effect.name}1"), tells(f"{effect.name}2"))
    yield counter.modify(lambda value: value + one + two)
    yield notes.tell(f"{effect.name}>")
    yield Return(f"{yield counter.get()}")


async def same_on_replay(comp: Computation[Any], outcome: Any, *handlers: Handler) -> None:
    desk = Desk()
    replayed = completed(await replay(comp, stored(outcome.log), *desk.handlers, *handlers))
    assert desk.arrived == []
    assert replayed.value == outcome.value
    assert replayed.cells == outcome.cells
    assert replayed.log.to_json() == outcome.log.to_json()


# -- computations as handlers ----------------------------------------------------------------------------------------


async def test_a_handler_sees_the_state_of_the_branch_that_asks() -> None:
    """5.9 A handler that requests effects sees the handlers of its scope, with the state of the branch it serves."""
    handler = Served.handled_by(serves)

    @computation
    async def branch(name: str) -> Effectful[str]:
        yield counter.put(10 * len(name))
        yield Served(name)
        yield Return((yield Served(name * 2)))

    @computation
    async def body() -> Effectful[list[Any]]:
        found = yield Parallel.all(branch("a"), branch("bb"))
        yield Return([*found, (yield counter.get()), (yield notes.peek())])

    outcome = completed(await start(body(), *Desk().handlers, handler))
    assert outcome.value == ["AA 12", "BBBB 22", 0, ["a", "aa", "bb", "bbbb"]]
    await same_on_replay(body(), outcome, handler)


async def test_entries_of_a_handler_stand_under_the_effect_of_the_branch() -> None:
    """5.9 Its entries live under the id of the effect that it answers, in the strand of the branch."""
    outcome = completed(
        await start(Parallel.all(Served("a"), Served("b")), *Desk().handlers, Served.handled_by(serves))
    )
    for number in (1, 2):
        served = [one for one in ids(outcome.log) if one.startswith(f"0/1.{number}/")]
        assert served == [f"0/1.{number}/1", *(f"0/1.{number}/1/{inner}" for inner in (2, 3, 4, 5))]


async def test_a_handler_may_open_branches() -> None:
    """5.9 A handler may be concurrent itself; on replay its notes and state are there again, though it does not run."""
    handler = Served.handled_by(serves_side_by_side)

    @computation
    async def body() -> Effectful[list[Any]]:
        yield Served("a")
        yield Served("b")
        yield Return([(yield counter.get()), (yield notes.peek())])

    outcome = completed(await start(body(), *Desk().handlers, handler))
    assert outcome.value[1] == ["<a", "a1", "a2", "a>", "<b", "b1", "b2", "b>"]
    await same_on_replay(body(), outcome, handler)


async def test_a_handler_that_opens_branches_in_a_branch() -> None:
    """5.9 Branches of a handler of a branch: all merges go where they belong, live, on replay and after crashes."""
    handler = Served.handled_by(serves_side_by_side)

    @computation
    async def asks_it(name: str) -> Effectful[str]:
        yield Return((yield Served(name)))

    comp = Parallel.all(asks_it("a"), asks_it("b"))
    outcome = completed(await crash_anywhere(comp, Desk(), handler))
    assert outcome.output(notes) == ["<a", "a1", "a2", "a>", "<b", "b1", "b2", "b>"]
    assert outcome.state(counter) == 0
    await same_on_replay(comp, outcome, handler)


async def test_a_handler_that_asks() -> None:
    """7.1 A handler in a branch may ask the outside; the wait is one of several, and its answer comes back to it."""

    async def asks_outside(effect: Served) -> str:
        answer = await Consult(effect.name)
        return f"{effect.name} {answer}"

    handler = Served.handled_by(asks_outside)
    comp = Parallel.all(Served("a"), Served("b"), Ask("c"))
    outcome: Any = suspended(await start(comp, handler))
    assert len(outcome.waits) == 3
    answers = {wait.ref: "yes" for wait in outcome.waits}
    ended = completed(await again(comp, outcome.log, handler, answers=answers))
    assert ended.value == ("a yes", "b yes", "yes")


async def test_a_branch_may_be_awaited_by_a_handler() -> None:
    """5.9 `await Parallel.race(...)` in an async handler: the loser is stopped, and the handler goes on."""

    async def hurries(effect: Served) -> str:
        won = await Parallel.race(x=calls(effect.name), y=asks("never"))
        return won.name

    handler = Served.handled_by(hurries)
    comp = Parallel.all(Served("a"), Served("b"))
    outcome = completed(await start(comp, *Desk().handlers, handler))
    assert outcome.value == ("x", "x")
    assert outcome.log.waits == []
    await same_on_replay(comp, outcome, handler)


async def test_an_inner_handler_in_one_branch_only() -> None:
    """5.10 `comp.handle(...)` around a branch shadows for that branch alone."""
    comp = Parallel.all(calls("a").handle(Call.always("inner")), calls("b"))
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == ("inner", "B")
    await same_on_replay(comp, outcome)


async def test_a_handler_around_all_branches() -> None:
    """5.10 `comp.handle(...)` around the concurrent effect is seen by all branches."""
    comp = Parallel.all(calls("a"), Parallel.map(calls, ["b", "c"])).handle(Call.always("inner"))
    assert completed(await start(comp, *Desk().handlers)).value == ("inner", ["inner", "inner"])


async def test_observers_and_interceptors_see_the_requests_of_branches() -> None:
    """5.11 Interceptors see live calls of branches, observers replays too; each request has the id of its strand."""
    seen: list[str] = []
    told: list[tuple[str, bool]] = []

    async def intercept(request: Any, perform: Any) -> Any:
        seen.append(request.id)
        return await perform(request)

    def observe(observation: Observation) -> None:
        told.append((observation.request.id, observation.replayed))

    comp = Parallel.all(calls("a", "b"), Parallel.race(x=calls("c")))
    outcome = completed(await start(comp, *Desk().handlers, intercept=[intercept], observe=[observe]))
    expected = {"0/1.1/1", "0/1.1/2", "0/1.2/1.x/1"}
    assert set(seen) == expected
    assert {one for one, _ in told} == {*expected, "0/1", "0/1.2/1"}
    assert {replayed for _, replayed in told} == {False}
    assert len(told) == 5
    told.clear()
    seen.clear()
    completed(await again(comp, outcome.log, *Desk().handlers, intercept=[intercept], observe=[observe]))
    assert seen == []
    assert {one for one, replayed in told if replayed} == {*expected, "0/1", "0/1.2/1"}


# -- lifetimes -------------------------------------------------------------------------------------------------------


class Rooms:
    """Scopes with a lifetime, which are counted."""

    def __init__(self, *, spans: bool = True) -> None:
        self.events: list[str] = []
        self.spans = spans

    def of(self, name: str) -> Handler:
        @asynccontextmanager
        async def opened() -> AsyncGenerator[Handler]:
            self.events.append(f"enter {name}")
            try:
                yield Served.always(name)
            finally:
                self.events.append(f"leave {name}")

        return lifetime(opened, spans_suspension=self.spans)


async def test_each_branch_opens_and_closes_its_own_lifetimes() -> None:
    """5.10 Lifetimes open where the branch enters its scope, and close on every way out of it."""
    rooms = Rooms()
    desk = Desk("bad", errors={"bad": ValueError("bad")})

    @computation
    async def uses(name: str) -> Effectful[str]:
        room = yield Served("")
        yield Call(name)
        yield Return(room)

    comp = Parallel.all(
        uses("done").handle(rooms.of("a")), uses("bad").handle(rooms.of("b")), uses("hang").handle(rooms.of("c"))
    )
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("hang").wait()
        await desk.at("done").wait()
        desk.let("bad")
        failed(await session.outcome())
    assert sorted(rooms.events) == [f"{way} {name}" for way in ("enter", "leave") for name in "abc"]


@pytest.mark.parametrize("where", ["branch", "around", "deep"])
@pytest.mark.parametrize("what", ["question", "sleep", "timeout"])
async def test_what_does_not_survive_a_suspension_refuses_it(where: str, what: str) -> None:
    """7.6 A scope that spans no suspension refuses whatever may suspend inside it, in a branch and around branches."""
    rooms = Rooms(spans=False)
    waits: dict[str, Any] = {
        "question": Ask("a"),
        "sleep": Clock.sleep(HOUR),
        "timeout": with_timeout(asks("a"), HOUR),
    }

    @computation
    async def suspends() -> Effectful[None]:
        yield waits[what]

    room = rooms.of("room")
    comp: Computation[Any]
    if where == "branch":
        comp = Parallel.all(suspends().handle(room), calls("b"))
    elif where == "around":
        comp = Parallel.all(suspends(), calls("b")).handle(room)
    else:
        comp = Parallel.all(Parallel.race(x=suspends()), calls("b")).handle(room)
    with pytest.raises(TransientScopeError) as caught:
        await start(comp, *Desk().handlers, VirtualClock().handler())
    assert caught.value.log is not None
    assert sorted(rooms.events) == ["enter room", "leave room"]


async def test_a_sibling_may_suspend_beside_such_a_scope() -> None:
    """7.6 The scope of one branch says nothing about its siblings: they may ask while it is open elsewhere."""
    rooms = Rooms(spans=False)
    comp = Parallel.all(calls("a", "b").handle(rooms.of("room")), asks("c"))
    outcome = suspended(await start(comp, *Desk().handlers))
    assert completed(await again(comp, outcome.log, *Desk().handlers, answer="yes")).value == ("B", "c: yes")


async def test_branches_inside_such_a_scope_that_do_not_suspend() -> None:
    """7.6 Branches that only call are welcome in it."""
    rooms = Rooms(spans=False)
    comp = Parallel.all(calls("a"), Parallel.race(x=calls("b"))).handle(rooms.of("room"))
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == ("A", Won("x", "B"))


# -- transactions ----------------------------------------------------------------------------------------------------


current: ContextVar[list[str]] = ContextVar("current")
"""What is written in the transaction that is open here; branches inside one share it."""


class Write(Effect[str], frozen=True):
    row: str


class Bank:
    """A database: what is written in a transaction is there once it was committed."""

    def __init__(self) -> None:
        self.committed: list[str] = []
        self.open = 0
        self.most = 0

    @asynccontextmanager
    async def begin(self) -> AsyncGenerator[None]:
        token = current.set([])
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            yield
            self.committed += current.get()
        finally:
            self.open -= 1
            current.reset(token)

    async def write(self, effect: Write) -> str:
        await anyio.lowlevel.checkpoint()
        current.get().append(effect.row)
        return effect.row

    @property
    def handlers(self) -> list[Handler]:
        return [Transaction.handler(self.begin), Write.handled_by(self.write)]


@computation
async def writes(*rows: str) -> Effectful[str]:
    for row in rows:
        yield Write(row)
    yield notes.tell(rows[-1])
    yield Return(rows[-1])


@computation
async def writes_and_fails(row: str) -> Effectful[str]:
    yield Write(row)
    yield notes.tell(row)
    yield Throw(ValueError(row))


@computation
async def rolls_back(row: str) -> Effectful[str]:
    yield Write(row)
    yield rollback("no")


async def test_each_branch_has_transactions_of_its_own() -> None:
    """Transactions in branches commit one by one, in resources of their own, which may be open at the same time."""
    bank = Bank()

    @computation
    async def slowly(*rows: str) -> Effectful[str]:
        yield Write(rows[0])
        yield Call("meet")
        yield Return((yield writes(*rows[1:])))

    meeting: list[str] = []

    async def meet(_effect: Call) -> str:
        meeting.append("here")
        while len(meeting) < 2:
            await anyio.lowlevel.checkpoint()
        return ""

    comp = Parallel.all(transact(slowly("a1", "a2")), transact(slowly("b1", "b2")))
    outcome = completed(await start(comp, *Desk().handlers, Call.handled_by(meet), *bank.handlers))
    assert outcome.value == ("a2", "b2")
    assert sorted(bank.committed) == ["a1", "a2", "b1", "b2"]
    assert bank.most == 2
    assert outcome.output(notes) == ["a2", "b2"]
    later = Bank()
    await same_on_replay(comp, outcome, *later.handlers)
    assert later.most == 0


async def test_a_transaction_of_a_branch_that_is_stopped_leaves_no_trace() -> None:
    """A sibling's error rolls back the transaction of a branch that was stopped; one that was committed stands."""
    bank = Bank()
    desk = Desk("bad", errors={"bad": ValueError("bad")})

    @computation
    async def hangs() -> Effectful[str]:
        yield Write("hanging")
        yield Return((yield Call("hang")))

    @computation
    async def fails() -> Effectful[str]:
        yield transact(writes("early"))
        yield Return((yield Call("bad")))

    comp = Parallel.all(transact(hangs()), fails(), transact(writes("done")))
    async with open_session(comp, *desk.handlers, *bank.handlers) as session:
        await desk.at("hang").wait()
        await desk.at("bad").wait()
        desk.let("bad")
        outcome = failed(await session.outcome())
    assert sorted(bank.committed) == ["done", "early"]
    assert bank.open == 0
    assert outcome.output(notes) == []
    later = Bank()
    replayed = failed(await replay(comp, stored(outcome.log), *Desk().handlers, *later.handlers))
    assert replayed.log.to_json() == outcome.log.to_json()
    assert later.most == 0


async def test_branches_inside_a_transaction_stand_or_fall_together() -> None:
    """Concurrent effects in a transaction share its resource: all that the branches did is committed, or none of it."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield transact(Parallel.all(writes("a"), Parallel.map(writes, ["b", "c"])))
        try:
            yield transact(Parallel.all(writes("d"), writes_and_fails("e")))
        except ValueError:
            yield notes.tell("caught")
        yield Return((yield notes.peek()))

    bank = Bank()
    outcome = completed(await start(body(), notes.handler(), *bank.handlers))
    assert sorted(bank.committed) == ["a", "b", "c"]
    assert bank.most == 1
    assert outcome.value == ["a", "b", "c", "caught"]
    later = Bank()
    replayed = completed(await replay(body(), stored(outcome.log), notes.handler(), *later.handlers))
    assert replayed.value == outcome.value
    assert replayed.log.to_json() == outcome.log.to_json()
    assert later.most == 0


async def test_a_rollback_in_a_branch_of_a_transaction() -> None:
    """`rollback` in a branch is its error like any other: it stops the siblings, and all is undone."""
    bank = Bank()
    comp = transact(Parallel.all(writes("a"), rolls_back("b"), calls("hang")))
    outcome = failed(await start(comp, *Desk().handlers, *bank.handlers))
    assert type(outcome.error).__name__ == "RolledBackError"
    assert bank.committed == []
    replayed = failed(await replay(comp, stored(outcome.log), *Desk().handlers, *bank.handlers))
    assert repr(replayed.error) == repr(outcome.error)


@pytest.mark.parametrize("where", ["in-a-branch", "around-branches"])
async def test_a_crash_inside_a_transaction(where: str) -> None:
    """A crash before the commit leaves no trace of the transaction: all of it is performed again, with its branches."""
    bank, desk = Bank(), Desk()

    @computation
    async def writes_and_hangs() -> Effectful[str]:
        yield Write("before")
        yield Call("hang")
        yield Return((yield Write("after")))

    comp: Computation[Any]
    if where == "in-a-branch":
        comp = Parallel.all(transact(writes_and_hangs()), calls("beside"))
    else:
        comp = transact(Parallel.all(writes_and_hangs(), writes("beside")))
    log = await host_cancelled(comp, *desk.handlers, *bank.handlers, when=desk.at("hang"), id="r")
    assert bank.committed == []
    later = Bank()
    there = Desk("hang")
    there.let("hang")
    outcome = completed(await again(comp, log, *there.handlers, *later.handlers))
    assert sorted(later.committed) == (["after", "before"] if where == "in-a-branch" else ["after", "before", "beside"])
    assert len(states(outcome.log)) == len(outcome.log.entries)
    assert "beside" not in there.arrived
    last = Bank()
    await same_on_replay(comp, outcome, *last.handlers)


@pytest.mark.parametrize("where", ["branch", "deep"])
async def test_a_question_in_a_branch_of_a_transaction_is_refused(where: str) -> None:
    """7.6 An open transaction does not survive a suspension: a question in any of its branches is refused."""
    bank = Bank()
    inner: Computation[Any] = asks("a")
    if where == "deep":
        inner = Parallel.race(x=Parallel.all(inner))
    with pytest.raises(TransientScopeError):
        await start(transact(Parallel.all(writes("b"), inner)), *Desk().handlers, *bank.handlers)
    assert bank.committed == []


async def test_a_timeout_inside_a_transaction() -> None:
    """`with_timeout` in a transaction, and around one: what is in time is committed, what is not leaves no trace."""
    bank, clock, desk = Bank(), VirtualClock(), Desk()

    @computation
    async def hangs() -> Effectful[str]:
        yield Write("late")
        yield Return((yield Call("hang")))

    @computation
    async def body() -> Effectful[list[str]]:
        one = yield transact(with_timeout(writes("in time"), HOUR))
        two = yield with_timeout(transact(hangs()).ensure(Release("x")), HOUR)
        yield Return([f"{one}", type(two).__name__, *(yield notes.peek())])

    async with open_session(body(), *desk.handlers, clock.handler(), *bank.handlers) as session:
        await desk.at("hang").wait()
        clock.advance(HOUR)
        outcome = completed(await session.outcome())
    assert outcome.value == ["in time", "TimedOut", "in time"]
    assert bank.committed == ["in time"]
    assert desk.arrived == ["hang", "release x"]
    await same_on_replay(body(), outcome, VirtualClock().handler(), *Bank().handlers)


async def test_always_cold() -> None:
    """7 Handlers, scopes and transactions in branches come to the same, stopped and resumed at every effect."""

    @computation
    async def body() -> Effectful[list[Any]]:
        found = yield Parallel.all(
            Served("a"), transact(Parallel.all(writes("b"), writes("c"))), calls("d").handle(Call.always("inner"))
        )
        yield Return([*found, (yield counter.get()), (yield notes.peek())])

    handlers = [Served.handled_by(serves), Transaction.in_memory(), Write.handled_by(lambda effect: effect.row)]
    outcome = completed(await always_cold(body(), *Desk().handlers, *handlers))
    assert outcome.value == ["A 1", ["b", "c"], "inner", 0, ["a", "b", "c"]]
