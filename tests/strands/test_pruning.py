"""`prune_branches=True`: a concurrent effect that has ended is one entry, and nothing is lost by that."""

from datetime import timedelta
from typing import Any

import anyio
import pytest
from msgspec import Struct

from skuld_async import (
    AtomicState,
    Channel,
    DivergenceError,
    Effect,
    Effectful,
    Log,
    Outcome,
    Parallel,
    Return,
    Suspended,
    UndecodableError,
    Won,
    bracket,
    computation,
    fork,
    join,
    mark_loop,
    open_session,
    replay,
    rerun,
    resume,
    start,
    with_timeout,
)

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    calls,
    cancelled,
    comes_to_the_same,
    completed,
    counter,
    crash_anywhere,
    failed,
    happened,
    ids,
    notes,
    stored,
    suspended,
    tells,
)

atom = AtomicState("pruning.atom", int)
queue = Channel("pruning.queue", int, capacity=9)
shared = [atom.handler(0), queue.handler()]


class Price(Struct, frozen=True):
    """What is typed."""

    cents: int
    per: tuple[str, ...] = ()


@computation
async def priced(cents: int) -> Effectful[Price]:
    yield Call(f"price {cents}")
    yield Return(Price(cents, ("piece",)))


async def finished(comp: Any, *handlers: Any, **more: Any) -> Outcome[Any]:
    """The outcome of *comp*, each question of which is answered in a process of its own."""
    outcome: Outcome[Any] = await start(comp, *handlers, **more)
    while isinstance(outcome, Suspended):
        given = {wait.ref: "yes" for wait in outcome.waits}
        outcome = await again(comp, outcome.log, *handlers, answers=given, **more)
    return outcome


# -- what is left --------------------------------------------------------------------------------------------------


async def test_one_entry_is_left() -> None:
    """An `all`, a `map` and a `race` that have ended are an entry each, with what their branches returned."""

    @computation
    async def body() -> Effectful[str]:
        both = yield Parallel.all(calls("a", "b"), Call("c"))
        many = yield Parallel.map(calls, ["d", "e", "f"], limit=2)
        won = yield Parallel.race(slow=calls("hang"), quick=calls("g", "h"))
        yield Return(f"{both} {many} {won}")

    outcome = completed(await crash_anywhere(body(), Desk(), prune_branches=True))
    assert outcome.value == f"{('B', 'C')} {['D', 'E', 'F']} {Won('quick', 'H')}"
    assert [entry.sig for entry in outcome.log.entries] == ["Parallel.all", "Parallel.map", "Parallel.race"]
    await comes_to_the_same(body(), outcome)


async def test_without_the_option_all_is_left() -> None:
    """Pruning is asked for: by default each branch keeps its entries."""
    comp = Parallel.all(calls("a"), calls("b"))
    assert len(completed(await start(comp, *Desk().handlers)).log.entries) == 3
    assert len(completed(await start(comp, *Desk().handlers, prune_branches=True)).log.entries) == 1


async def test_results_are_typed_and_round_trip() -> None:
    """6.11 What the branches returned comes back as what they declare, and is so on the first run too."""
    seen: list[Any] = []

    @computation
    async def body() -> Effectful[int]:
        prices = yield Parallel.map(priced, [1, 2])
        seen.append(prices)
        one, none, word = yield Parallel.all(priced(3), Parallel.all(), Call("x"))
        seen.append((one, none, word))
        won = yield Parallel.race(only=priced(4))
        seen.append(won)
        yield Ask("go")
        yield Return(won.value.cents)

    outcome = completed(await finished(body(), *Desk().handlers, prune_branches=True))
    assert outcome.value == 4
    wanted = [
        [Price(1, ("piece",)), Price(2, ("piece",))],
        (Price(3, ("piece",)), (), "X"),
        Won("only", Price(4, ("piece",))),
    ]
    assert seen == wanted * 2
    await comes_to_the_same(body(), outcome)


async def test_a_replay_needs_no_option() -> None:
    """A log says by itself what was pruned: it is replayed and resumed with the option and without."""
    comp = Parallel.all(tells("a", "b"), tells("c"))
    outcome = completed(await start(comp, *Desk().handlers, prune_branches=True))
    each: list[Any] = [{}, {"prune_branches": True}, {"prune_branches": False}]
    for options in each:
        same = completed(await replay(comp, stored(outcome.log), *Desk().handlers, **options))
        assert same.value == outcome.value
        assert same.cells == outcome.cells


async def test_a_result_that_no_longer_decodes_is_an_error() -> None:
    """5.6 A pruned result of another type than the branch declares today is an UndecodableError."""
    comp = Parallel.all(priced(1))
    log = completed(await start(comp, *Desk().handlers, prune_branches=True)).log
    edited = Log.from_json(log.to_json().replace(b'"cents":1', b'"cents":"?"'))
    assert edited.to_json() != log.to_json()
    with pytest.raises(UndecodableError):
        await replay(comp, edited, *Desk().handlers)


# -- what they told ------------------------------------------------------------------------------------------------


@computation
async def nested(name: str) -> Effectful[int]:
    """Tells, in branches of branches and in a task."""
    yield notes.tell(f"{name} begins")
    first = yield Parallel.all(tells(f"{name}1"), Parallel.map(tells, [f"{name}2", f"{name}3"]))
    task = yield fork(tells(f"{name}4"))
    yield notes.tell(f"{name} between")
    won = yield Parallel.race(winner=tells(f"{name}5"), loser=calls("hang"))
    second = yield join(task)
    yield Return(first[0] + sum(first[1]) + won.value + second)


@computation
async def tells_a_lot() -> Effectful[int]:
    yield notes.tell("root")
    first = yield Parallel.all(nested("a"), nested("b"))
    yield Ask("one")
    second = yield Parallel.map(nested, ["c", "d"])
    yield Ask("two")
    yield notes.tell("end")
    yield Return(sum(first) + sum(second))


async def test_notes_and_events_are_merged_in_branch_order() -> None:
    """What branches told is where it would be without pruning: after any resume, and on every replay."""
    plain = completed(await finished(tells_a_lot(), *Desk().handlers))
    pruned = completed(await finished(tells_a_lot(), *Desk().handlers, prune_branches=True))
    assert pruned.value == plain.value
    assert pruned.output(notes) == plain.output(notes)
    assert pruned.output(happened) == plain.output(happened)
    assert pruned.output(notes)[:3] == ["root", "a begins", "a1"]
    assert len(pruned.log.entries) < 8 < len(plain.log.entries)
    await comes_to_the_same(tells_a_lot(), pruned)


async def test_notes_are_merged_in_branch_order_wherever_the_run_dies() -> None:
    """A death before or after the pruning of any branch changes nothing."""

    @computation
    async def body() -> Effectful[int]:
        both = yield Parallel.all(nested("a"), nested("b"))
        yield Return(sum(both))

    outcome = completed(await crash_anywhere(body(), Desk(), prune_branches=True))
    assert outcome.output(notes) == completed(await start(body(), *Desk().handlers)).output(notes)


async def test_what_inner_scopes_hold_is_told_there() -> None:
    """Notes go to the scope that they were told in, also where the branches were pruned."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield Parallel.all(tells("outer"))
        inner = yield inside().handle(notes.handler())
        yield Ask("go")
        yield Return([*inner, "/", *(yield notes.peek())])

    @computation
    async def inside() -> Effectful[list[str]]:
        yield Parallel.all(tells("inner"), tells("other"))
        yield Ask("inside")
        yield Return((yield notes.peek()))

    outcome = completed(await finished(body(), *Desk().handlers, prune_branches=True))
    assert outcome.value == ["inner", "other", "/", "outer"]
    await comes_to_the_same(body(), outcome)


async def test_a_handler_that_was_passed_over_has_told_it_too() -> None:
    """Branches that a handler opened are pruned as well; what they told is told again on replay."""

    class Deep(Effect[int], frozen=True):
        """Its handler opens branches."""

    @computation
    async def deep(_effect: Deep) -> Effectful[int]:
        yield Return((yield nested("x")))

    @computation
    async def body() -> Effectful[list[str]]:
        yield Deep()
        yield Ask("go")
        yield Return((yield notes.peek()))

    handlers = [*Desk().handlers, Deep.handled_by(deep)]
    outcome = completed(await finished(body(), *handlers, prune_branches=True))
    assert outcome.value == completed(await finished(body(), *handlers)).value
    await comes_to_the_same(body(), outcome, Deep.handled_by(deep))


async def test_state_in_branches_is_dropped_as_ever() -> None:
    """What branches put into State stays their own, pruned or not."""

    @computation
    async def body() -> Effectful[int]:
        yield counter.put(5)
        yield Parallel.all(tells("a"), tells("b"))
        yield Ask("go")
        yield Return((yield counter.get()))

    assert completed(await finished(body(), *Desk().handlers, prune_branches=True)).value == 5


# -- what is not pruned --------------------------------------------------------------------------------------------


async def test_failures_are_not_pruned() -> None:
    """Where a branch failed, settled or not, the branches are kept: an error is rebuilt where it was raised."""
    desk = Desk(errors={"bad": ValueError("x")})

    @computation
    async def body() -> Effectful[str]:
        good = yield Parallel.all(calls("a"), settle=True)
        mixed = yield Parallel.all(calls("b"), calls("bad"), settle=True)
        try:
            yield Parallel.all(calls("c"), calls("bad"))
        except ValueError as error:
            yield Return(f"{good} {mixed} {error}")

    outcome = completed(await start(body(), *desk.handlers, prune_branches=True))
    concurrent = [entry.id for entry in outcome.log.entries if entry.sig == "Parallel.all"]
    kept = [sum(one.startswith(f"{opened}.") for one in ids(outcome.log)) for opened in concurrent]
    assert kept == [0, 2, 2]
    await comes_to_the_same(body(), outcome)


async def test_brackets_are_not_pruned() -> None:
    """Of a bracket the type of the result is not known: its branches are kept, and come to the same."""

    @computation
    async def body() -> Effectful[str]:
        held, plain = yield Parallel.all(bracket(Call("a"), lambda _: calls("b"), Release), calls("c"))
        yield Return(held + plain)

    outcome = completed(await crash_anywhere(body(), Desk(), prune_branches=True))
    assert outcome.value == "BC"
    assert len(outcome.log.entries) == 5
    await comes_to_the_same(body(), outcome)


async def test_what_wraps_a_call_is_pruned() -> None:
    """A branch with cleanup or handlers of its own has the type of the call inside."""

    @computation
    async def body() -> Effectful[tuple[str, int]]:
        yield Return((yield Parallel.all(calls("a").ensure(Release("b")), tells("c").handle(counter.handler(7)))))

    outcome = completed(await start(body(), *Desk().handlers, prune_branches=True))
    assert outcome.value == ("A", 8)
    assert len(outcome.log.entries) == 1
    await comes_to_the_same(body(), outcome)


async def test_timeouts_and_tasks_keep_their_entries() -> None:
    """Only `all`, `map` and `race` are pruned; inside of others they are."""

    @computation
    async def both() -> Effectful[str]:
        yield Return("".join((yield Parallel.all(calls("a"), calls("b")))))

    @computation
    async def body() -> Effectful[str]:
        task = yield fork(both())
        timed = yield with_timeout(both(), timedelta(hours=1))
        yield Return(f"{timed}{(yield join(task))}")

    outcome = completed(await start(body(), *Desk().handlers, prune_branches=True))
    assert outcome.value == "ABAB"
    assert sorted(entry.sig for entry in outcome.log.entries) == [
        "Parallel.all",
        "Parallel.all",
        "fork",
        "join",
        "with_timeout",
    ]
    await comes_to_the_same(body(), outcome)


# -- what strands share --------------------------------------------------------------------------------------------


@computation
async def adds(by: int) -> Effectful[int]:
    yield atom.modify(lambda value: value + by)
    yield Call(f"added {by}")
    yield Return((yield atom.modify(lambda value: value + by)))


@computation
async def adds_inside(by: int) -> Effectful[int]:
    yield Parallel.all(adds(by), adds(by))
    yield Return(by)


@pytest.mark.parametrize("branch", [adds, adds_inside])
async def test_the_last_write_of_an_atomic_state_survives(branch: Any) -> None:
    """The value that strands share is the same after any resume, though all of its entries but one are gone."""

    @computation
    async def body() -> Effectful[int]:
        yield Parallel.map(branch, [1, 10])
        yield Ask("go")
        yield Parallel.race(quick=branch(100))
        yield Ask("again")
        yield Return((yield atom.get()))

    outcome = completed(await finished(body(), *Desk().handlers, *shared, prune_branches=True))
    assert outcome.value == (222 if branch is adds else 444)
    assert sum(entry.sig.startswith("AtomicState") and ".get" not in entry.sig for entry in outcome.log.entries) == 2
    await comes_to_the_same(body(), outcome, *shared)


@computation
async def loops(times: int) -> Effectful[int]:
    """Its marks prune its own entries first."""
    done = 0
    while done < times:
        done = yield mark_loop("loops", int, carry=done)
        yield atom.modify(lambda value: value + 1)
        yield queue.send(done)
        done += 1
    yield mark_loop("end", int, carry=done)
    yield Return(done)


@computation
async def drains(times: int) -> Effectful[list[int]]:
    got: list[int] = []
    while len(got) < times:
        got = yield mark_loop("drains", list[int], carry=got)
        got = [*got, (yield queue.receive())]
    yield mark_loop("end", int, carry=0)
    yield Return(got)


async def test_what_a_mark_holds_of_shared_cells_survives() -> None:
    """A mark may be the last that knows of a shared value: its pruning loses and doubles no value of a channel."""

    @computation
    async def body() -> Effectful[tuple[list[int], list[int], int]]:
        _, first = yield Parallel.all(loops(5), drains(3))
        yield Ask("go")
        yield queue.send(77)
        rest = yield drains(3)
        yield Ask("again")
        yield Return((first, rest, (yield atom.get())))

    outcome = completed(await finished(body(), *Desk().handlers, *shared, prune_branches=True))
    assert outcome.value == ([0, 1, 2], [3, 4, 77], 5)
    await comes_to_the_same(body(), outcome, *shared)
    outcome = completed(await finished(body(), *Desk().handlers, *shared, prune_branches=True, state_keys=[]))
    assert outcome.value == ([0, 1, 2], [3, 4, 77], 5)


async def test_what_went_through_a_channel_survives() -> None:
    """Values that pruned branches sent are there; those that they received are not there again."""

    @computation
    async def sends(first: int) -> Effectful[None]:
        for value in range(first, first + 3):
            yield queue.send(value)

    @computation
    async def body() -> Effectful[list[int]]:
        yield Parallel.all(sends(0))
        yield Parallel.all(Parallel.all(sends(10)), queue.receive())
        yield Ask("go")
        got = yield Parallel.all(queue.receive(), settle=True)
        yield Ask("again")
        yield queue.close()
        rest: list[int] = []
        for _ in range(4):
            rest.append((yield queue.receive()))  # noqa: PERF401 - a comprehension cannot yield
        yield Return([*got, *rest])

    outcome = completed(await finished(body(), *Desk().handlers, *shared, prune_branches=True))
    assert outcome.value == [1, 2, 10, 11, 12]
    await comes_to_the_same(body(), outcome, *shared)


async def test_a_loop_of_pruned_branches_keeps_a_small_log() -> None:
    """A mark prunes what was kept of pruned branches, however deep in them it was; also in a resumed run."""

    @computation
    async def deep(number: int) -> Effectful[int]:
        yield queue.send(number)
        yield atom.modify(lambda value: value + 1)
        yield Return(number)

    @computation
    async def middle(number: int) -> Effectful[int]:
        yield Parallel.race(only=deep(number))
        yield Return((yield queue.receive()))

    @computation
    async def body() -> Effectful[int]:
        number = 0
        while True:
            number = yield mark_loop("body", int, carry=number)
            if number == 6:
                yield Return((yield atom.get()))
                return
            yield Parallel.all(middle(number))
            yield Ask(f"{number}")
            number += 1

    sizes: list[int] = []
    outcome: Any = await start(body(), *Desk().handlers, *shared, prune_branches=True)
    while isinstance(outcome, Suspended):
        sizes.append(len(outcome.log.entries))
        outcome = await again(body(), outcome.log, *Desk().handlers, *shared, prune_branches=True, answer="x")
    assert completed(outcome).value == 6
    assert len(sizes) == 6
    assert max(sizes) == sizes[0]
    async with open_session(body(), *Desk().handlers, *shared, prune_branches=True) as session:
        while isinstance(hot := await session.outcome(), Suspended):
            assert len(hot.log.entries) == sizes[0]
            await session.answer("x")
    assert ids(completed(hot).log) == ids(outcome.log)


async def test_decisions_behind_pruned_branches_do_not_wait_for_them() -> None:
    """What is left of branches in branches is no strand that has yet to come to the end of its log."""

    @computation
    async def body() -> Effectful[str]:
        yield Parallel.map(adds_inside, [1, 2])
        yield Ask("go")
        won = yield Parallel.race(slow=calls("hang"), quick=calls("a"))
        yield Ask("again")
        yield Return(won.name)

    handlers = [*Desk().handlers, *shared]
    first = suspended(await start(body(), *handlers, prune_branches=True))
    with anyio.fail_after(20):
        second = suspended(await again(body(), first.log, *handlers, prune_branches=True, answer="x"))
        async with open_session(body(), *handlers, log=stored(second.log)) as session:
            outcome = cancelled(await session.cancel("enough"))
    await comes_to_the_same(body(), outcome, *shared)


# -- changed code --------------------------------------------------------------------------------------------------


async def test_other_branches_over_a_pruned_entry_are_a_divergence() -> None:
    """Also with `allow_divergence`: what the old branches did cannot be told from the new ones any more."""
    names = ["a", "b"]

    @computation
    async def body() -> Effectful[list[str]]:
        got = yield Parallel.map(calls, names)
        yield Ask("go")
        yield Return(got)

    log = suspended(await start(body(), *Desk().handlers, prune_branches=True)).log
    names.append("c")
    for options in ({}, {"allow_divergence": True}):
        desk = Desk()
        with pytest.raises(DivergenceError) as caught:
            await again(body(), log, *desk.handlers, answer="x", **options)
        assert desk.arrived == []
        assert caught.value.entry == log.entries[0].id
    assert "pruned" in str(caught.value)
    del names[-1]
    assert completed(await again(body(), log, *Desk().handlers, answer="x")).value == ["A", "B"]


async def test_new_code_behind_a_pruned_entry_is_aligned() -> None:
    """A pruned entry that still matches stays as it is under `allow_divergence`."""
    extra: list[bool] = []

    @computation
    async def body() -> Effectful[str]:
        if extra:
            yield Call("new")
        got = yield Parallel.all(calls("a"), calls("b"))
        yield Ask("go")
        yield Return("".join(got))

    log = suspended(await start(body(), *Desk().handlers, prune_branches=True)).log
    extra.append(True)
    outcome = completed(await again(body(), log, *(desk := Desk()).handlers, answer="x", allow_divergence=True))
    assert outcome.value == "AB"
    assert desk.arrived == ["new"]


async def test_pruning_may_begin_and_end_with_any_resume() -> None:
    """The option belongs to a session: branches that were under way without it are pruned when they end with it."""

    @computation
    async def asks(name: str) -> Effectful[str]:
        yield notes.tell(name)
        answer = yield Ask(name)
        yield Return(f"{name}{answer}")

    @computation
    async def body() -> Effectful[list[str]]:
        got = yield Parallel.map(asks, ["a", "b"])
        yield Ask("between")
        more = yield Parallel.map(asks, ["c", "d"])
        yield Return([*got, *more])

    outcome: Any = await start(body(), *Desk().handlers)
    each: list[Any] = [{"prune_branches": True}, {"prune_branches": True}, {}]
    for options in each:
        given = {wait.ref: "!" for wait in outcome.waits}
        outcome = await again(body(), outcome.log, *Desk().handlers, answers=given, **options)
    assert completed(outcome).value == ["a!", "b!", "c!", "d!"]
    assert outcome.output(notes) == ["a", "b", "c", "d"]
    assert [entry.id for entry in outcome.log.entries if entry.id.startswith("0/2.")] == []
    await comes_to_the_same(body(), outcome)


async def test_a_failed_run_keeps_what_was_pruned_before() -> None:
    """A failure behind pruned branches replays, and is run again without them."""

    @computation
    async def body() -> Effectful[str]:
        both = yield Parallel.all(tells("a"), tells("b"))
        last = yield Call("bad")
        yield Return(f"{both}{last}")

    desk = Desk(errors={"bad": ValueError("x")})
    outcome = failed(await start(body(), *desk.handlers, prune_branches=True))
    await comes_to_the_same(body(), outcome)
    ended = completed(await rerun(body(), stored(outcome.log), *(later := Desk()).handlers))
    assert ended.value == "(1, 1)BAD"
    assert later.arrived == ["bad"]
    assert ended.output(notes) == ["a", "b"]


async def test_a_run_that_dies_at_any_entry_with_all_of_it() -> None:
    """Before, in and after each pruning a death changes nothing: values, notes, events, and what strands share."""

    @computation
    async def body() -> Effectful[str]:
        sums = yield Parallel.map(adds_inside, [1, 2])
        told = yield Parallel.all(nested("a"), settle=True)
        won = yield Parallel.race(only=nested("b"))
        yield Return(f"{sums} {told} {won.value} {(yield atom.get())}")

    outcome = completed(await crash_anywhere(body(), Desk(), *shared, prune_branches=True))
    plain = completed(await start(body(), *Desk().handlers, *shared))
    assert outcome.value == plain.value
    assert outcome.cells == plain.cells
    await comes_to_the_same(body(), outcome, *shared)
    assert completed(await resume(body(), stored(outcome.log), *Desk().handlers, *shared)).value == plain.value
