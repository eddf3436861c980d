"""Errors in branches: the others are stopped, and what arrives at the `yield` is the same now and on every replay."""

from typing import Any, cast

import anyio
import pytest

from skuld_async import (
    Computation,
    DomainError,
    EffectError,
    Effectful,
    Log,
    Parallel,
    Return,
    Throw,
    bracket,
    computation,
    open_session,
    rerun,
    start,
)

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
)


class OutOfStock(DomainError):
    item: str


class Odd(Exception):
    """No error of the library, of Python, or of an operation: a log keeps its name and text."""


@computation
async def raises(error: Any, *names: str) -> Effectful[str]:
    """These calls; then it raises."""
    yield calls(*names)
    raise error


@computation
async def caught(comp: Computation[Any]) -> Effectful[str]:
    """What arrives at the `yield`."""
    try:
        yield comp
    except Exception as error:  # noqa: BLE001 - the point of the test
        yield Return(tree(error))
        return
    yield Return("nothing")


def tree(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        error = cast("BaseExceptionGroup[BaseException]", error)
        return f"{error.message}: [{', '.join(tree(one) for one in error.exceptions)}]"
    return repr(error)


def catching(comp: Computation[Any]) -> Computation[str]:
    """`caught`, whose argument no log could hold."""

    @computation(name="strands:catching")
    async def catches() -> Effectful[str]:
        yield Return((yield caught(comp)))

    return catches()


async def test_one_error_arrives_as_itself() -> None:
    """The error of one branch arrives at the `yield`: the very object, in no group; so it does on a replay."""
    error = OutOfStock("lamp")
    seen: list[BaseException] = []

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Parallel.all(raises(error, "a"), calls("hang"))
        except OutOfStock as found:
            seen.append(found)
        yield Return("went on")

    outcome = completed(await start(body(), *Desk().handlers))
    assert seen == [error]
    assert outcome.log.entries[0].state == "discarded"
    await comes_to_the_same(body(), outcome)
    assert [repr(one) for one in seen] == ["OutOfStock('lamp')"] * 2


async def test_the_others_are_stopped_and_clean_up_first() -> None:
    """Siblings are cancelled and do their cleanup before the error arrives; those that have returned stand."""
    desk = Desk("bad", errors={"bad": ValueError("bad")})

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Parallel.all(
                calls("done"),
                calls("bad"),
                bracket(Call("room"), lambda _: calls("hang"), Release),
                asks("a").ensure(Release("question")),
            )
        except ValueError as error:
            yield Call(f"caught {error}")
        yield Return("went on")

    async with open_session(body(), *desk.handlers) as session:
        for name in ("hang", "done", "before a"):
            await desk.at(name).wait()
        while not session.log.waits:
            await anyio.lowlevel.checkpoint()
        desk.let("bad")
        outcome = completed(await session.outcome())
    assert sorted(desk.arrived[-3:-1]) == ["release ROOM", "release question"]
    assert desk.arrived[-1] == "caught bad"
    assert desk.running == set()
    found = states(outcome.log)
    assert found["0/2.2/1"] == "discarded"
    assert found["0/2.4/2"] == "discarded"
    assert outcome.log.waits == []
    await comes_to_the_same(body(), outcome)


async def test_several_errors_arrive_as_a_group_in_the_order_of_the_branches() -> None:
    """What the cleanup of a stopped branch raises is not lost: a group, in the order of the branches, on replay too."""

    @computation
    async def breaks_when_stopped(name: str) -> Effectful[str]:
        try:
            yield Call(f"hang {name}")
        finally:
            raise KeyError(name)
        yield Return("")

    desk = Desk("now")
    failing = raises(ValueError("first"), "now")
    inner = Parallel.all(breaks_when_stopped("a"), failing, breaks_when_stopped("b"), calls("hang c"))
    async with open_session(catching(inner), *desk.handlers) as session:
        for name in ("a", "b", "c"):
            await desk.at(f"hang {name}").wait()
        desk.let("now")
        outcome = completed(await session.outcome())
    assert outcome.value == "3 branches failed: [KeyError('a'), ValueError('first'), KeyError('b')]"
    entry = next(one for one in outcome.log.entries if one.sig == "Parallel.all")
    assert entry.strands
    assert entry.strands.failed == ["1", "2", "3"]
    await comes_to_the_same(catching(inner), outcome)


async def test_groups_in_groups_keep_their_tree() -> None:
    """6.6 Groups keep their tree: a group that a branch raises stands in the group of its siblings' errors."""
    own = ExceptionGroup("own", [ValueError("a"), ExceptionGroup("deep", [KeyError("b")])])

    @computation
    async def breaks() -> Effectful[str]:
        try:
            yield Call("hang")
        finally:
            raise LookupError
        yield Return("")

    desk = Desk("x")
    comp = catching(Parallel.all(raises(own, "x"), breaks()))
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("hang").wait()
        desk.let("x")
        outcome = completed(await session.outcome())
    assert outcome.value == "2 branches failed: [own: [ValueError('a'), deep: [KeyError('b')]], LookupError()]"
    await comes_to_the_same(comp, outcome)


async def test_a_failed_run_is_failed_by_the_branch() -> None:
    """An error that nobody catches fails the run; its cause is the entry of the branch that failed."""
    desk = Desk(errors={"bad": ValueError("bad")})
    comp = Parallel.all(calls("a", "bad"), calls("hang"))
    outcome = failed(await start(comp, *desk.handlers))
    assert repr(outcome.error) == "ValueError('bad')"
    assert outcome.log.header.cause == "0/1.1/2"
    await comes_to_the_same(comp, outcome)


async def test_settle_gives_results_and_errors_side_by_side() -> None:
    """`settle=True`: nothing is stopped, and each error stands in the place of its branch's result."""
    desk = Desk("slow", errors={"bad": ValueError("bad")})

    @computation
    async def body() -> Effectful[list[str]]:
        found = yield Parallel.all(calls("slow"), calls("bad"), raises(OutOfStock("lamp")), settle=True)
        yield Return([one if isinstance(one, str) else repr(one) for one in found])

    async with open_session(body(), *desk.handlers) as session:
        await desk.at("slow").wait()
        await desk.at("bad").wait()
        desk.let("slow")
        outcome = completed(await session.outcome())
    assert outcome.value == ["SLOW", "ValueError('bad')", "OutOfStock('lamp')"]
    assert outcome.log.entries[0].state == "executed"
    await comes_to_the_same(body(), outcome)


async def test_settle_in_a_map() -> None:
    """`settle=True` of a map, where all fail: a list of errors, and the run goes on."""
    desk = Desk(errors={name: ValueError(name) for name in "abc"})

    @computation
    async def body() -> Effectful[list[str]]:
        found = yield Parallel.map(Call, ["a", "b", "c"], limit=1, settle=True)
        yield Return([str(one) for one in found])

    outcome = completed(await start(body(), *desk.handlers))
    assert outcome.value == ["a", "b", "c"]
    await comes_to_the_same(body(), outcome)


async def test_what_a_failed_branch_told_is_gone() -> None:
    """Of a branch that failed, and of those that were stopped, nothing is added; what came before stays."""

    @computation
    async def tells(word: str, then: str) -> Effectful[None]:
        yield notes.tell(word)
        yield happened.emit(word)
        yield counter.put(5)
        yield Call(then)

    @computation
    async def body() -> Effectful[int]:
        yield notes.tell("before")
        try:
            yield Parallel.all(tells("done", "x"), tells("bad", "bad"), tells("stopped", "hang"))
        except ValueError:
            yield notes.tell("caught")
        found = yield Parallel.all(tells("settled", "x"), tells("settled and bad", "bad"), settle=True)
        assert isinstance(found[1], ValueError)
        yield Return((yield counter.get()))

    outcome = completed(await start(body(), *Desk(errors={"bad": ValueError("bad")}).handlers))
    assert outcome.value == 0
    assert outcome.output(notes) == ["before", "caught", "settled"]
    assert outcome.output(happened) == ["settled"]
    await comes_to_the_same(body(), outcome)


async def test_an_error_while_a_sibling_waits() -> None:
    """An error stops a sibling that waits for an answer; the wait is closed, in a resume too."""
    comp = catching(Parallel.all(asks("a"), raises(ValueError("late"), "x")))
    desk = Desk()
    outcome = completed(await start(comp, *desk.handlers))
    assert outcome.value == "ValueError('late')"
    assert outcome.log.waits == []
    await comes_to_the_same(comp, outcome)


async def test_an_error_after_an_answer() -> None:
    """The answered branch fails: the sibling that still waits is stopped with its cleanup, in a fresh process."""

    @computation
    async def refuses() -> Effectful[str]:
        answer = yield Ask("a")
        raise ValueError(answer)

    comp = catching(Parallel.all(refuses(), asks("b").ensure(Release("b"))))
    outcome = suspended(await start(comp, *Desk().handlers))
    assert about(outcome) == ["a", "b"]
    wait = next(wait for wait in outcome.waits if wait.id.endswith(".1/1"))
    desk = Desk()
    ended = completed(await again(comp, outcome.log, *desk.handlers, answer="no", to=wait))
    assert ended.value == "ValueError('no')"
    assert desk.arrived == ["release b"]
    await comes_to_the_same(comp, ended)


async def test_errors_of_other_libraries_arrive_the_same_on_replay() -> None:
    """6.6 What a log cannot rebuild arrives from a call as `EffectError`, the first time as well."""
    desk = Desk(errors={"bad": Odd("strange")})
    comp = catching(Parallel.all(calls("bad"), calls("hang")))
    outcome = completed(await start(comp, *desk.handlers))
    assert outcome.value == repr(EffectError(f"{__name__}:Odd", "strange", ["strange"]))
    await comes_to_the_same(comp, outcome)


async def test_throw_in_a_branch() -> None:
    """6.3 A `Throw` is an error of its branch like any other."""
    comp = catching(Parallel.all(Throw(OutOfStock("lamp")), calls("hang")))
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == "OutOfStock('lamp')"
    await comes_to_the_same(comp, outcome)


async def test_an_error_deep_down_passes_through_all_levels() -> None:
    """An error of a branch within a branch stops the uncles too, each with its cleanup."""
    desk = Desk("bad", errors={"bad": ValueError("deep")})
    inner = Parallel.all(calls("bad"), calls("hang 1").ensure(Release("brother")))
    comp = catching(Parallel.all(inner, calls("hang 2").ensure(Release("uncle"))))
    async with open_session(comp, *desk.handlers) as session:
        await desk.at("hang 1").wait()
        await desk.at("hang 2").wait()
        desk.let("bad")
        outcome = completed(await session.outcome())
    assert outcome.value == "ValueError('deep')"
    assert desk.arrived[-2:] == ["release brother", "release uncle"]
    await comes_to_the_same(comp, outcome)


async def test_an_error_may_be_caught_in_its_branch() -> None:
    """An error that the branch catches is nobody else's business."""
    desk = Desk(errors={"bad": ValueError("mine")})
    comp = Parallel.all(caught(calls("bad")), calls("a"))
    outcome = completed(await start(comp, *desk.handlers))
    assert outcome.value == ("ValueError('mine')", "A")
    await comes_to_the_same(comp, outcome)


async def test_a_crash_anywhere_gives_the_same_error() -> None:
    """Whatever a crash leaves of a failing team: the same error, cleanup done, no settled call made again."""
    failing = Parallel.all(
        calls("a").ensure(Release("a")), raises(ValueError("x"), "b"), asks("c").ensure(Release("c"))
    )
    outcome = completed(await crash_anywhere(catching(failing), Desk()))
    assert outcome.value == "ValueError('x')"


async def test_rerun_performs_the_call_that_failed_again() -> None:
    """6.7 `rerun` runs the call of the branch that failed again, under its own key; its sibling keeps what it did."""
    first = Desk(errors={"bad": ValueError("down")})
    comp = Parallel.all(calls("a", "bad", "b"), calls("c"))
    outcome = failed(await start(comp, *first.handlers, id="r"))
    assert outcome.log.header.cause == "0/1.1/2"
    second = Desk()
    ended = completed(await rerun(comp, stored(outcome.log), *second.handlers))
    assert ended.value == ("B", "C")
    assert "c" not in second.arrived
    assert dict(zip(second.arrived, second.keys, strict=True)) == {"bad": "r/0/1.1/2", "b": "r/0/1.1/3~1"}


async def test_rerun_of_a_branch_that_raised_by_itself() -> None:
    """6.7 Where the body of a branch raised, `rerun` runs the branches again from what they did."""
    broken = True

    @computation
    async def maybe() -> Effectful[str]:
        yield Call("a")
        if broken:
            message = "bug"
            raise ValueError(message)
        yield Return("fixed")

    comp = Parallel.all(maybe(), calls("c"))
    desk = Desk()
    outcome = failed(await start(comp, *desk.handlers))
    broken = False
    ended = completed(await rerun(comp, stored(outcome.log), *(later := Desk()).handlers))
    assert ended.value == ("fixed", "C")
    assert "a" not in later.arrived
    states(ended.log)


async def test_the_error_of_a_branch_names_its_entry() -> None:
    """5.12 An error carries a note with computation, effect and entry id of the branch's request."""
    outcome = failed(await start(Parallel.all(calls("bad")), *Desk(errors={"bad": ValueError("x")}).handlers))
    assert any("at Call (entry 0/1.1/1)" in note for note in outcome.error.__notes__)


async def test_the_failure_is_written_before_a_sibling_is_stopped() -> None:
    """What is decided stands in the log before any branch is stopped: who failed, and where the others were."""
    log = Log()
    seen: list[tuple[list[str], list[str]]] = []

    @computation
    async def looks() -> Effectful[str]:
        try:
            yield Call("hang")
        finally:
            decided = log.entries[0].strands
            assert decided
            seen.append((decided.failed, decided.stopped))
        yield Return("")

    desk = Desk("bad", errors={"bad": ValueError("x")})
    async with open_session(Parallel.all(looks(), calls("bad")), *desk.handlers, into=log) as session:
        await desk.at("hang").wait()
        desk.let("bad")
        failed(await session.outcome())
    assert seen == [(["2"], ["0/1.1/1"])]


@pytest.mark.parametrize("limit", [1, 2])
async def test_items_that_have_not_begun_are_never_begun(limit: int) -> None:
    """An error in a map with a limit: what has not begun yet is not begun any more."""
    desk = Desk(errors={"1": ValueError("1")})
    comp = Parallel.map(Call, [str(number) for number in range(10)], limit=limit)
    outcome = failed(await start(comp, *desk.handlers))
    assert len(desk.arrived) <= 1 + limit + 1
    assert "9" not in desk.arrived
    await comes_to_the_same(comp, outcome)
