"""`AtomicState`: a cell that strands share on purpose."""

import random
from typing import Any

import anyio
import msgspec
import pytest

from skuld_async import (
    AtomicState,
    DeclarationError,
    Effectful,
    Outcome,
    Parallel,
    Return,
    RolledBackError,
    Transaction,
    UnencodableError,
    computation,
    fork,
    join,
    mark_loop,
    open_session,
    replay,
    rollback,
    start,
    transact,
)

from .parts import Ask, Call, Desk, again, completed, crash_anywhere, stored, suspended

stock = AtomicState("strands.stock", int)
seen = AtomicState("strands.seen", list[str])
handlers = [stock.handler(0), seen.handler([])]


def one_more(value: int) -> int:
    return value + 1


@computation
async def adds(name: str, times: int = 1) -> Effectful[list[int]]:
    """Adds one after each call; what it was then."""
    values: list[int] = []
    for number in range(times):
        yield Call(f"{name}{number}")
        values.append((yield stock.modify(one_more)))
    yield Return(values)


async def in_order(desk: Desk, names: list[str]) -> None:
    """Let the calls of *desk* end in this order."""
    for name in names:
        await desk.at(name).wait()
        desk.let(name)
        while name in desk.running:
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("seed", range(5))
async def test_no_increment_is_lost(seed: int) -> None:
    """Whatever the interleaving, n branches that add m times each come to n * m, each step once."""
    names = [f"{branch}{number}" for branch in "abcd" for number in range(3)]
    desk = Desk(*names)
    chance = random.Random(seed)
    left = {branch: [f"{branch}{number}" for number in range(3)] for branch in "abcd"}
    order: list[str] = []
    while any(left.values()):
        order.append(left[chance.choice([branch for branch in left if left[branch]])].pop(0))
    comp = Parallel.map(lambda name: adds(name, 3), list("abcd"))
    async with open_session(comp, *desk.handlers, *handlers) as session:
        await in_order(desk, order)
        outcome = completed(await session.outcome())
    assert outcome.state(stock) == 12
    given = {
        f"{name}{number}": value
        for name, own in zip("abcd", outcome.value, strict=True)
        for number, value in enumerate(own)
    }
    assert [given[name] for name in order] == list(range(1, 13))
    again_ = completed(await replay(comp, stored(outcome.log), *Desk().handlers, *handlers))
    assert again_.value == outcome.value
    assert again_.state(stock) == 12


@computation
async def remembers(name: str) -> Effectful[list[str]]:
    yield Call(name)
    yield seen.modify(lambda names: [*names, name])
    answer = yield Ask(name)
    yield Call(f"then {name}")
    yield Return((yield seen.modify(lambda names: [*names, answer])))


async def test_its_value_comes_from_the_log_not_from_the_order_of_the_replay() -> None:
    """After a resume the cell holds what the last entry made of it, though the replay's strands came in another order.

    Here the second branch was faster: a replay starts with the first.
    """
    desk = Desk("a", "b")
    comp = Parallel.all(remembers("a"), remembers("b"))
    async with open_session(comp, *desk.handlers, *handlers) as session:
        await in_order(desk, ["b", "a"])
        first = suspended(await session.outcome())
    assert first.state(seen) == ["b", "a"]
    answers = {wait.ref: msgspec.json.decode(wait.question)["about"].upper() for wait in first.waits}
    second = completed(await again(comp, first.log, *Desk().handlers, *handlers, answers=answers))
    assert (second.state(seen) or [])[:2] == ["b", "a"]
    assert sorted((second.state(seen) or [])[2:]) == ["A", "B"]


async def test_the_value_is_there_after_a_resume_that_only_replays() -> None:
    """`outcome.state(key)` is right where the session did nothing but replay, or did not come so far."""
    comp = Parallel.all(remembers("a"), remembers("b"))
    first = suspended(await start(comp, *Desk().handlers, *handlers))
    assert sorted(first.state(seen) or []) == ["a", "b"]
    second = suspended(await again(comp, first.log, *Desk().handlers, *handlers))
    assert second.state(seen) == first.state(seen)
    third = await replay(comp, stored(first.log), *Desk().handlers, *handlers)
    assert third.state(seen) == first.state(seen)

    @computation
    async def unmoved() -> Effectful[int]:
        yield Ask("before")
        yield Return((yield stock.get()))

    waiting = suspended(await start(unmoved(), *Desk().handlers, *handlers))
    assert waiting.state(stock) == 0


async def test_it_is_right_after_a_crash_anywhere() -> None:
    """Wherever the log was cut, a resume goes on from the value at the cut, and no effect on it is done twice."""

    @computation
    async def body() -> Effectful[int]:
        task = yield fork(adds("task", 2))
        yield Parallel.all(adds("a", 2), adds("b", 2))
        yield join(task)
        yield stock.compare_and_set(6, 60)
        yield Return((yield stock.get()))

    outcome = completed(await crash_anywhere(body(), Desk(), *handlers))
    assert outcome.value == 60
    assert outcome.state(stock) == 60


async def test_compare_and_set() -> None:
    """`compare_and_set` replaces the value if it equals the expected one, and says so; exactly one of several does."""

    @computation
    async def claims(name: str) -> Effectful[bool]:
        value = yield stock.get()
        yield Call(name)
        yield Return((yield stock.compare_and_set(value, value + 1)))

    comp = Parallel.map(claims, list("abc"))
    outcome = completed(await start(comp, *Desk().handlers, *handlers))
    assert sorted(outcome.value) == [False, False, True]
    assert outcome.state(stock) == 1
    resumed = completed(await again(comp, outcome.log, *Desk().handlers, *handlers))
    assert (resumed.value, resumed.state(stock)) == (outcome.value, 1)


async def test_put_and_get() -> None:
    """`put` replaces the value for all strands at once."""

    @computation
    async def body() -> Effectful[int]:
        task = yield fork(stock.put(5))
        yield join(task)
        yield Call("a")
        yield Return((yield stock.get()))

    outcome = completed(await crash_anywhere(body(), Desk(), *handlers))
    assert (outcome.value, outcome.state(stock)) == (5, 5)


async def test_modify_is_not_run_again() -> None:
    """What `modify` is given runs once, on the first run: a replay takes its answer from the log."""
    ran: list[int] = []

    def change(value: int) -> int:
        ran.append(value)
        return value + 2

    @computation
    async def body() -> Effectful[int]:
        yield Return((yield stock.modify(change)))

    outcome = completed(await start(body(), *handlers))
    resumed = completed(await again(body(), outcome.log, *handlers))
    assert (resumed.value, resumed.state(stock), ran) == (2, 2, [0])


async def test_a_modify_that_raises_changes_nothing() -> None:
    """The error of the function arrives at its line, also on replay, and the value stays."""

    def fails(value: int) -> int:
        raise LookupError(value)

    @computation
    async def body() -> Effectful[str]:
        yield stock.put(3)
        try:
            yield stock.modify(fails)
        except LookupError as error:
            yield Call("a")
            yield Return(f"{error} {(yield stock.get())}")

    outcome = completed(await crash_anywhere(body(), Desk(), *handlers))
    assert (outcome.value, outcome.state(stock)) == ("3 3", 3)


@pytest.mark.parametrize("how", ["put", "modify"])
async def test_a_value_of_another_type_is_refused(how: str) -> None:
    """What does not fit the declared type is refused at that line, and the value stays."""
    wrong: Any = "text"

    @computation
    async def body() -> Effectful[None]:
        yield stock.put(3)
        yield stock.put(wrong) if how == "put" else stock.modify(lambda _: wrong)

    with pytest.raises(UnencodableError) as caught:
        await start(body(), *handlers)
    assert caught.value.log is not None
    assert len([entry for entry in caught.value.log.entries if entry.state == "executed"]) == 1


async def test_a_first_value_of_another_type_is_refused() -> None:
    """The handler's first value is checked where the handler is made."""
    wrong: Any = "text"
    with pytest.raises(DeclarationError, match="first value"):
        stock.handler(wrong)


@pytest.mark.parametrize("prune", [True, False])
async def test_marks_keep_it(prune: bool) -> None:
    """A mark keeps the value, so that pruning what was done before loses nothing, wherever the log is cut."""

    @computation
    async def body() -> Effectful[list[int]]:
        values: list[int] = []
        while len(values) < 3:
            values = yield mark_loop("loop", list[int], carry=values)
            yield Parallel.all(adds("a"), adds("b"))
            values = [*values, (yield stock.get())]
        yield Return(values)

    outcome: Outcome[list[int]]
    if prune:
        outcome = await crash_anywhere(body(), Desk(), *handlers)
    else:
        outcome = await start(body(), *Desk().handlers, *handlers, prune_loops=False)
    done = completed(outcome)
    assert (done.value, done.state(stock)) == ([2, 4, 6], 6)
    resumed = completed(await again(body(), done.log, *Desk().handlers, *handlers, prune_loops=prune))
    assert (resumed.value, resumed.state(stock)) == ([2, 4, 6], 6)


async def test_an_older_mark_of_another_strand_does_not_win() -> None:
    """The last entry in the log decides, be it an effect or the mark of whichever strand."""
    desk = Desk("loop", "other")

    @computation
    async def loops() -> Effectful[None]:
        done = 0
        while done < 2:
            done = yield mark_loop("loop", int, carry=done)
            yield stock.modify(one_more)
            yield Call("loop")
            done += 1

    @computation
    async def other() -> Effectful[None]:
        yield Call("other")
        yield stock.put(100)
        yield Ask("anything")

    comp = Parallel.all(loops(), other())
    async with open_session(comp, *desk.handlers, *handlers) as session:
        await in_order(desk, ["other"])
        desk.let("loop")
        first = suspended(await session.outcome())
    assert first.state(stock) == 101
    second = completed(await again(comp, first.log, *Desk().handlers, *handlers, answer=""))
    assert second.state(stock) == 101


async def test_an_inner_scope_has_a_cell_of_its_own() -> None:
    """A handler of an inner scope shadows the outer one: two cells of one key, each right after a crash anywhere."""

    @computation
    async def inner() -> Effectful[int]:
        yield Parallel.all(adds("c"), adds("d"))
        task = yield fork(adds("e"))
        yield join(task)
        yield Return((yield stock.get()))

    @computation
    async def body() -> Effectful[tuple[int, int, int]]:
        yield adds("a")
        first = yield inner().handle(stock.handler(10))
        second = yield inner().handle(stock.handler(20))
        yield Return((first, second, (yield stock.modify(one_more))))

    outcome = completed(await crash_anywhere(body(), Desk(), *handlers))
    assert (outcome.value, outcome.state(stock)) == ((13, 23, 2), 2)


async def test_a_rollback_leaves_it() -> None:
    """A transaction that is rolled back leaves it as it is: other strands may have seen it."""

    @computation
    async def inner() -> Effectful[None]:
        yield stock.modify(one_more)
        yield rollback("no")

    @computation
    async def body() -> Effectful[int]:
        with pytest.raises(RolledBackError):
            yield transact(inner())
        yield Return((yield stock.get()))

    outcome = completed(await start(body(), *Desk().handlers, *handlers, Transaction.in_memory()))
    assert outcome.value == 1
    resumed = completed(await again(body(), outcome.log, *Desk().handlers, *handlers, Transaction.in_memory()))
    assert (resumed.value, resumed.state(stock)) == (1, 1)
