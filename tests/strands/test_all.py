"""`Parallel.all`: side by side, with the promises of straight-line code."""

from typing import cast

import anyio
import pytest

from skuld_async import (
    Computation,
    DeclarationError,
    Effectful,
    Log,
    Parallel,
    Return,
    Throw,
    bracket,
    computation,
    current_call,
    open_session,
    replay,
    start,
)
from skuld_async._context import current_strand
from skuld_async._strand import Strand
from skuld_async.testing import always_cold

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
    crash_anywhere,
    failed,
    ids,
    states,
    stored,
    suspended,
    waits_by_name,
)


async def test_results_stand_in_the_order_of_the_branches() -> None:
    """The results are a tuple in the order of the branches, whoever ends first; a branch may be a mere effect."""
    desk = Desk("slow")

    @computation
    async def last() -> Effectful[str]:
        yield Call("quick")
        desk.let("slow")
        yield Return("second")

    outcome = completed(await start(Parallel.all(calls("slow"), last(), Call("c")), *desk.handlers))
    assert outcome.value == ("SLOW", "second", "C")


async def test_branches_run_side_by_side() -> None:
    """Each branch is under way while the others are: three calls that end together only."""
    desk = Desk("a", "b", "c")

    async def open_all() -> None:
        for name in ("a", "b", "c"):
            await desk.at(name).wait()
        assert desk.running == {"a", "b", "c"}
        desk.let("a", "b", "c")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(open_all)
            outcome = await start(Parallel.all(Call("a"), Call("b"), Call("c")), *desk.handlers)
    assert completed(outcome).value == ("A", "B", "C")


async def test_nothing_side_by_side() -> None:
    """No branches give an empty tuple at once, and an entry all the same."""
    nothing: Computation[tuple[str, ...]] = Parallel.all()
    outcome = completed(await start(nothing, *Desk().handlers))
    assert outcome.value == ()
    assert states(outcome.log) == {"0/1": "executed"}
    await comes_to_the_same(nothing, outcome)


@pytest.mark.parametrize("first", ["a", "b"])
async def test_numbers_do_not_depend_on_who_is_faster(first: str) -> None:
    """6.2 Ids are strand path and counter: the same whichever branch is faster, and so are the keys that calls get."""
    second = "b" if first == "a" else "a"
    desk = Desk("a", "b")

    @computation
    async def branch(name: str) -> Effectful[str]:
        yield Call(name)
        yield Call(f"{name} done")
        if name == first:
            desk.let(second)
        yield Return((yield calls(f"{name} deep")))

    async with open_session(Parallel.all(branch("a"), branch("b")), *desk.handlers, id="run") as session:
        await desk.at("a").wait()
        await desk.at("b").wait()
        desk.let(first)
        log = completed(await session.outcome()).log
    assert sorted(ids(log)) == ["0/1", *(f"0/1.{strand}/{n}" for strand in "12" for n in (1, 2, 4))]
    keys = dict(zip(desk.arrived, desk.keys, strict=True))
    assert keys["a done"] == "run/0/1.1/2"
    assert keys["b deep"] == "run/0/1.2/4"
    assert desk.arrived.index(f"{first} done") < desk.arrived.index(f"{second} done")


async def test_the_strands_around_go_on_counting() -> None:
    """6.2 One concurrent effect takes one number of its strand; branches of branches stand under theirs."""

    @computation
    async def body() -> Effectful[str]:
        yield Call("a")
        yield Parallel.all(Parallel.all(Call("b")), Call("c"))
        yield Return((yield Call("d")))

    outcome = completed(await start(body(), *Desk().handlers))
    assert states(outcome.log) == dict.fromkeys(["0/1", "0/3", "0/3.1/1", "0/3.1/1.1/1", "0/3.2/1", "0/4"], "executed")


async def test_one_entry_before_those_of_its_branches() -> None:
    """6.1 A concurrent effect is one entry, which starts before those of its branches and is executed after them."""
    desk = Desk("a")
    log = Log()
    async with open_session(Parallel.all(Call("a"), Call("b")), *desk.handlers, into=log) as session:
        await desk.at("b").wait()
        assert states(log)["0/1"] == "started"
        desk.let("a")
        await session.outcome()
    assert ids(log)[0] == "0/1"
    assert log.entries[0].sig == "Parallel.all"
    assert set(states(log).values()) == {"executed"}


async def test_each_strand_has_its_own_task() -> None:
    """5.4 Same task from a strand's first step to its last; each strand has its own."""
    tasks: list[tuple[str, int]] = []

    def here(name: str) -> None:
        strand = current_strand.get()
        assert strand is not None
        tasks.append((name, id(cast("Strand", strand).current_task())))

    @computation
    async def branch(name: str) -> Effectful[None]:
        here(name)
        yield Call(name)
        here(name)
        yield calls(name)
        here(name)

    @computation
    async def body() -> Effectful[None]:
        here("root")
        yield Parallel.all(branch("a"), branch("b"))
        here("root")

    await start(body(), *Desk().handlers)
    assert len(set(tasks)) == 3
    assert len({task for _, task in tasks}) == 3


async def test_each_call_has_the_key_of_its_own_strand() -> None:
    """6.2 `current_call` in a handler gives the key of the branch that it serves, also when several are out."""
    desk = Desk("a", "b")
    seen: dict[str, str] = {}

    async def serve(effect: Call) -> str:
        answer = await desk.serve(effect)
        seen[effect.name] = current_call().key
        return answer

    async with open_session(Parallel.all(Call("a"), Call("b")), Call.handled_by(serve), id="r") as session:
        await desk.at("a").wait()
        await desk.at("b").wait()
        desk.let("b", "a")
        completed(await session.outcome())
    assert seen == {"a": "r/0/1.1/1", "b": "r/0/1.2/1"}


async def test_a_replay_performs_nothing_and_gives_the_same() -> None:
    """6.4 A replay matches strand by strand, whatever the order in which the entries were written."""
    desk = Desk("a")

    @computation
    async def quick() -> Effectful[str]:
        for name in "bcd":
            yield Call(name)
        desk.let("a")
        yield Return("quick")

    comp = Parallel.all(calls("a", "e"), quick())
    outcome = completed(await start(comp, *desk.handlers, id="r"))
    assert ids(outcome.log)[-1] == "0/1.1/2"
    later = Desk("a")
    assert completed(await replay(comp, stored(outcome.log), *later.handlers)).value == outcome.value
    assert later.arrived == []
    await comes_to_the_same(comp, outcome)


async def test_the_order_of_the_entries_of_two_strands_does_not_matter() -> None:
    """6.4 Matching is per strand: a log whose strands are interleaved in another way replays the same."""
    comp = Parallel.all(calls("a", "b"), calls("c", "d"))
    outcome = completed(await start(comp, *Desk().handlers))
    log = stored(outcome.log)
    for back in (False, True):
        branches = sorted(log.entries[1:], key=lambda entry: (entry.id[4] if not back else -int(entry.id[4]), entry.id))
        log.entries = [log.entries[0], *branches]
        assert completed(await replay(comp, log, *Desk().handlers)).value == outcome.value


@computation
async def many() -> Effectful[tuple[str, ...]]:
    yield Call("first")
    inner = Parallel.all(calls("a", "b").ensure(Release("a")), bracket(Call("room"), calls, Release))
    one, two = yield Parallel.all(inner, calls("c"))
    yield Return((*one, two, (yield Call("last"))))


async def test_a_crash_anywhere_performs_no_settled_call_again() -> None:
    """Whatever a crash leaves, a resume comes to the same, and calls nothing again that was settled."""
    outcome = completed(await crash_anywhere(many(), Desk()))
    assert outcome.value == ("B", "ROOM", "C", "LAST")
    await comes_to_the_same(many(), outcome)


async def test_always_cold() -> None:
    """7 Stopped and resumed at every effect, branches come to what they come to straight, each call made once."""
    desk = Desk()
    outcome = await always_cold(many(), *desk.handlers)
    assert completed(outcome).value == ("B", "ROOM", "C", "LAST")
    assert len(desk.arrived) == len(set(desk.arrived)) * 2


async def test_a_branch_asks_while_another_works() -> None:
    """7.4 A run suspends when no strand can move, and not before: the other branch does all its work first."""
    desk = Desk("slow")

    async with open_session(Parallel.all(asks("a"), calls("slow", "b")), *desk.handlers) as session:
        await desk.at("slow").wait()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert session.log.header.status == "running"
        assert len(session.log.waits) == 1
        desk.let("slow")
        outcome = suspended(await session.outcome())
        assert outcome.log.header.status == "suspended"
        assert states(outcome.log)["0/1.2/2"] == "executed"
    assert about(outcome) == ["a"]


async def test_a_cold_resume_goes_on_in_each_branch_where_it_stood() -> None:
    """A cold resume gives each branch what it had, and only the answered one moves."""
    comp = Parallel.all(asks("a"), asks("b"))
    first = suspended(await start(comp, *Desk().handlers))
    desk = Desk()
    second = suspended(await again(comp, first.log, *desk.handlers, answer="yes", to=waits_by_name(first)["b"]))
    assert desk.arrived == ["after b"]
    third = completed(await again(comp, second.log, *(desk := Desk()).handlers, answer="no"))
    assert desk.arrived == ["after a"]
    assert third.value == ("a: no", "b: yes")


async def test_branches_may_await_instead_of_yield() -> None:
    """5.1 `await` is served in a branch like `yield`, and the whole concurrent effect may be awaited."""

    @computation
    async def awaits(name: str) -> str:
        return await Call(name) + await calls(f"{name} deep")

    @computation
    async def body() -> str:
        one, two = await Parallel.all(awaits("a"), awaits("b"))
        return one + two

    outcome = completed(await start(body(), *Desk().handlers))
    assert outcome.value == "AA DEEPBB DEEP"
    await comes_to_the_same(body(), outcome)


async def test_a_recipe_may_run_twice() -> None:
    """2 A computation is a recipe: one made once may be run again, and each time takes its own numbers."""
    both = Parallel.all(Call("a"), Call("b"))

    @computation
    async def body() -> Effectful[list[tuple[str, str]]]:
        yield Return([(yield both), (yield both)])

    desk = Desk()
    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == [("A", "B")] * 2
    assert len(set(desk.keys)) == 4


async def test_what_is_no_branch_is_refused_at_once() -> None:
    """What is neither a computation nor an effect is refused where it is given."""
    with pytest.raises(DeclarationError, match=r"Parallel\.all\(calls\): it is not called"):
        Parallel.all(calls)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    with pytest.raises(DeclarationError, match="neither a computation nor an effect"):
        Parallel.all("a")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]


async def test_control_effects_may_be_branches() -> None:
    """A question is a branch like any other effect; a `Throw` is one that fails."""
    comp = Parallel.all(Ask("a"), Ask("b"))
    outcome = suspended(await start(comp))
    assert about(outcome) == ["a", "b"]
    answers = {wait.ref: name * 2 for name, wait in waits_by_name(outcome).items()}
    assert completed(await again(comp, outcome.log, answers=answers)).value == ("aa", "bb")

    error = ValueError("thrown")
    assert repr(failed(await start(Parallel.all(Throw(error), Ask("a")))).error) == repr(error)
