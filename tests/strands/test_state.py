"""State in branches: a snapshot of the fork. Notes and events are added in the order of the branches at the join."""

from typing import Any

import anyio
import pytest

from skuld_async import (
    Computation,
    Effectful,
    Parallel,
    Reader,
    Return,
    State,
    Won,
    Writer,
    computation,
    open_session,
    replay,
    run,
    start,
)
from skuld_async.testing import always_cold

from .parts import (
    Ask,
    Call,
    Desk,
    again,
    completed,
    counter,
    happened,
    notes,
    stored,
    suspended,
    tells,
)

basket = State("strands.basket", list[str])
inner = State("strands.inner", int)
other = Writer("strands.other", str)
greeting = Reader("strands.greeting", str)


@computation
async def adds(number: int, *then: str) -> Effectful[int]:
    """Adds to the counter, and gives what it sees."""
    yield counter.modify(lambda value: value + number)
    for name in then:
        yield Call(name)
    yield Return((yield counter.get()))


async def same_on_replay(comp: Computation[Any], outcome: Any, *handlers: Any) -> None:
    replayed = completed(await replay(comp, stored(outcome.log), *Desk().handlers, *handlers))
    assert replayed.value == outcome.value
    assert replayed.cells == outcome.cells


async def test_a_branch_sees_state_as_it_was_at_the_fork() -> None:
    """State in branches is a snapshot of the fork: no branch sees another's, and the strand around keeps its own."""

    @computation
    async def body() -> Effectful[list[int]]:
        yield counter.put(100)
        found = yield Parallel.all(adds(1, "a"), adds(2, "b"), adds(3))
        yield Return([*found, (yield counter.get())])

    outcome = completed(await start(body(), *Desk().handlers))
    assert outcome.value == [101, 102, 103, 100]
    assert outcome.state(counter) == 100
    await same_on_replay(body(), outcome)


async def test_a_value_that_is_changed_in_place_is_the_branchs_own() -> None:
    """The snapshot is a copy: what a branch does to a list that it got is seen by nobody else."""

    @computation
    async def appends(word: str) -> Effectful[list[str]]:
        words = yield basket.get()
        words.append(word)
        yield basket.put(words)
        yield Call(word)
        yield Return((yield basket.get()))

    @computation
    async def body() -> Effectful[list[list[str]]]:
        yield basket.put(["old"])
        found = yield Parallel.all(appends("a"), appends("b"))
        yield Return([*found, (yield basket.get())])

    outcome = completed(await start(body(), *Desk().handlers, basket.handler([])))
    assert outcome.value == [["old", "a"], ["old", "b"], ["old"]]
    await same_on_replay(body(), outcome, basket.handler([]))


async def test_a_branch_of_a_map_with_a_limit_sees_the_fork_too() -> None:
    """A branch that begins late sees state as it was when the effect was requested, not as a sibling left it."""
    comp = Parallel.map(adds, [1, 2, 3, 4], limit=1)
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == [1, 2, 3, 4]
    assert outcome.state(counter) == 0


async def test_notes_and_events_are_added_in_the_order_of_the_branches() -> None:
    """Writer and events merge in branch order, whoever was faster; a branch sees what was told before, and its own."""
    desk = Desk("a", "b")

    @computation
    async def tells_and_looks(word: str) -> Effectful[list[str]]:
        yield tells(word, f"{word}{word}")
        yield Return((yield notes.peek()))

    @computation
    async def body() -> Effectful[list[list[str]]]:
        yield notes.tell("before")
        found = yield Parallel.all(tells_and_looks("a"), tells_and_looks("b"))
        yield notes.tell("behind")
        yield Return([*found, (yield notes.peek())])

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("a").wait()
        desk.let("b")
        await desk.at("bb").wait()
        desk.let("a")
        outcome = completed(await session.outcome())
    assert outcome.value == [
        ["before", "a", "aa"],
        ["before", "b", "bb"],
        ["before", "a", "aa", "b", "bb", "behind"],
    ]
    assert outcome.output(happened) == ["a", "aa", "b", "bb"]
    await same_on_replay(body(), outcome)


async def test_nothing_is_added_before_all_have_ended() -> None:
    """What a branch told is its own until the join: a suspended outcome does not show it yet."""

    @computation
    async def tells_and_asks() -> Effectful[str]:
        yield notes.tell("mine")
        yield Return((yield Ask("a")))

    comp = Parallel.all(tells_and_asks(), tells("other"))
    outcome = suspended(await start(comp, *Desk().handlers))
    assert outcome.output(notes) == []
    ended = completed(await again(comp, outcome.log, *Desk().handlers, answer="yes"))
    assert ended.output(notes) == ["mine", "other"]
    assert ended.output(happened) == ["other"]


async def test_merges_of_branches_in_branches() -> None:
    """Inner branches are added to their own branch first, then all to the strand around, always in branch order."""

    @computation
    async def level(depth: int, path: str) -> Effectful[None]:
        yield notes.tell(f"{path}<")
        if depth:
            yield Parallel.all(*(level(depth - 1, f"{path}{number}") for number in range(2)))
        yield notes.tell(f">{path}")

    outcome = completed(await start(level(2, "x"), *Desk().handlers))
    expected = "x< x0< x00< >x00 x01< >x01 >x0 x1< x10< >x10 x11< >x11 >x1 >x"
    assert outcome.output(notes) == expected.split(" ")
    await same_on_replay(level(2, "x"), outcome)


async def test_listen_and_censor_in_branches() -> None:
    """`listen` in a branch hears the branch alone; `censor` changes the branch's notes alone, and those are added."""

    @computation
    async def listens() -> Effectful[list[str]]:
        yield notes.tell("mine")
        _, heard = yield notes.listen(tells("a", "b"))
        yield Return(heard)

    @computation
    async def body() -> Effectful[list[Any]]:
        yield notes.tell("before")
        heard, count = yield Parallel.all(
            listens(), notes.censor(tells("c", "d"), lambda told: [word.upper() for word in told])
        )
        yield Return([heard, count, (yield notes.peek())])

    outcome = completed(await start(body(), *Desk().handlers))
    assert outcome.value == [["a", "b"], 2, ["before", "mine", "a", "b", "C", "D"]]
    await same_on_replay(body(), outcome)


async def test_listen_and_censor_around_branches() -> None:
    """`listen` and `censor` around a concurrent effect hear and change what its branches told, in their order."""

    @computation
    async def body() -> Effectful[list[Any]]:
        yield notes.tell("before")
        _, heard = yield notes.listen(Parallel.all(tells("a"), tells("b")))
        yield notes.censor(Parallel.map(tells, ["c", "d"]), lambda told: list(reversed(told)))
        yield Return([heard, (yield notes.peek())])

    outcome = completed(await start(body(), *Desk().handlers))
    assert outcome.value == [["a", "b"], ["before", "a", "b", "d", "c"]]
    await same_on_replay(body(), outcome)


async def test_censor_around_a_race() -> None:
    """`censor` around a race sees the winner's notes alone."""
    desk = Desk("a")
    comp = notes.censor(Parallel.race(a=tells("a"), b=tells("b", "hang")), lambda told: [*told, "censored"])

    async with open_session(comp, *desk.handlers) as session:
        await desk.at("hang").wait()
        desk.let("a")
        outcome = completed(await session.outcome())
    assert outcome.value == Won("a", 1)
    assert outcome.output(notes) == ["a", "censored"]


async def test_scopes_that_branches_open_are_their_own() -> None:
    """`handle` in a branch opens a scope of its own; what is gathered there is gone with it, as it is elsewhere."""

    @computation
    async def works(number: int) -> Effectful[int]:
        yield inner.modify(lambda value: value + number)
        yield other.tell(f"{number}")
        yield notes.tell(f"{number}")
        assert (yield other.peek()) == [f"{number}"]
        yield Call(f"{number}")
        yield Return((yield inner.get()))

    def scoped(number: int) -> Computation[int]:
        return works(number).handle(inner.handler(10), other.handler())

    outcome = completed(await start(Parallel.map(scoped, [1, 2]), *Desk().handlers))
    assert outcome.value == [11, 12]
    assert outcome.output(notes) == ["1", "2"]
    await same_on_replay(Parallel.map(scoped, [1, 2]), outcome)


async def test_a_scope_between_root_and_branch() -> None:
    """State of a scope around the concurrent effect is forked, and notes told there are added there."""

    @computation
    async def works(number: int) -> Effectful[int]:
        yield other.tell(f"{number}")
        yield Call(f"{number}")
        yield Return((yield inner.modify(lambda value: value + number)))

    @computation
    async def middle() -> Effectful[list[Any]]:
        yield inner.put(10)
        found = yield Parallel.map(works, [1, 2])
        yield Return([found, (yield inner.get()), (yield other.peek())])

    comp = middle().handle(inner.handler(0), other.handler())
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == [[11, 12], 10, ["1", "2"]]
    await same_on_replay(comp, outcome)


async def test_a_reader_is_read_in_branches() -> None:
    """6.3 What a Reader gives is recorded for each branch that asks, and seen again on replay."""

    @computation
    async def asks_it() -> Effectful[str]:
        yield Return((yield greeting.ask()))

    comp = Parallel.all(asks_it(), asks_it())
    outcome = completed(await start(comp, greeting.handler("hello")))
    replayed = completed(await replay(comp, stored(outcome.log), greeting.handler("changed")))
    assert replayed.value == ("hello", "hello")


async def test_state_after_a_cold_resume_is_state_before() -> None:
    """6.3 In branches as elsewhere: what a branch had put before it suspended is there after a cold resume."""

    @computation
    async def works(name: str) -> Effectful[str]:
        yield counter.modify(lambda value: value + len(name))
        yield notes.tell(name)
        answer = yield Ask(name)
        yield notes.tell(answer)
        yield Return(f"{yield counter.get()} {yield notes.peek()}")

    comp = Parallel.all(works("a"), works("bb"))
    outcome: Any = await start(comp, *Desk().handlers)
    while outcome.log.waits:
        outcome = await again(comp, outcome.log, *Desk().handlers, answer="yes", to=outcome.log.waits[-1])
    assert completed(outcome).value == ("1 ['a', 'yes']", "2 ['bb', 'yes']")
    assert outcome.output(notes) == ["a", "yes", "bb", "yes"]


@pytest.mark.parametrize("log", [True, False], ids=["start", "run"])
async def test_the_same_without_a_log(log: bool) -> None:
    """`run` forks and merges as `start` does."""

    @computation
    async def body() -> Effectful[list[Any]]:
        yield counter.put(1)
        found = yield Parallel.all(tells("a"), tells("b", "c"))
        yield Return([*found, (yield counter.get()), (yield notes.peek())])

    handlers = Desk().handlers
    value = completed(await start(body(), *handlers)).value if log else await run(body(), *handlers)
    assert value == [2, 3, 1, ["a", "b", "c"]]


async def test_always_cold() -> None:
    """7 State and notes in branches come to the same, stopped and resumed at every effect."""

    @computation
    async def body() -> Effectful[list[Any]]:
        yield tells("start")
        found = yield Parallel.all(tells("a"), notes.censor(tells("b", "c"), lambda told: told[:1]), tells("d"))
        yield Return([*found, (yield counter.get()), (yield notes.peek())])

    outcome = completed(await always_cold(body(), *Desk().handlers))
    assert outcome.value == [2, 3, 2, 1, ["start", "a", "b", "d"]]


async def test_a_fork_is_made_when_the_effect_is_requested() -> None:
    """The state that a late branch copies is that of the fork, though nobody looked at it before."""
    desk = Desk("x")

    @computation
    async def late() -> Effectful[list[str]]:
        yield Call("x")
        yield Return((yield basket.get()))

    @computation
    async def early() -> Effectful[None]:
        words = yield basket.get()
        words.append("mine")
        yield basket.put(words)
        await anyio.lowlevel.checkpoint()
        desk.let("x")

    outcome = completed(await start(Parallel.all(late(), early()), *desk.handlers, basket.handler(["old"])))
    assert outcome.value == (["old"], None)
    assert outcome.state(basket) == ["old"]
