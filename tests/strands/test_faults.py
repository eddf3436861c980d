"""Faults by name: what may go wrong between two lines of a concurrent run, and what is left of it."""

import asyncio
from typing import Any

import anyio
import pytest

from skuld_async import (
    Computation,
    DeploymentError,
    DivergenceError,
    Effect,
    Effectful,
    Handler,
    Log,
    MissingReturnError,
    NotAnEffectError,
    OutsideStrandError,
    Parallel,
    Return,
    UnencodableError,
    UnhandledEffectError,
    Won,
    computation,
    open_session,
    start,
)

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    asks,
    calls,
    comes_to_the_same,
    completed,
    host_cancelled,
    states,
    stored,
    suspended,
)


class Missing(Effect[str], frozen=True):
    """Nobody handles it, until the fix."""


class Parcel(Effect[str], frozen=True):
    content: Any


FIXED = Missing.always("fixed")


@computation
async def caught(comp: Any) -> Effectful[str]:
    try:
        yield comp
    except ValueError as error:
        yield Return(f"{error}")
        return
    yield Return("nothing")


# -- crashes ---------------------------------------------------------------------------------------------------------


async def test_cancelled_between_start_and_record() -> None:
    """A call that was out when its process ended is made again under its own key; what siblings did is not."""
    desk = Desk()
    comp = Parallel.all(calls("a", "b"), calls("hang", "c"))
    log = Log()
    async with open_session(comp, *desk.handlers, into=log, id="r") as session:
        await desk.at("hang").wait()
        while states(log).get("0/1.1/2") != "executed":
            await anyio.lowlevel.checkpoint()
        crashed = stored(session.log)
    assert states(crashed)["0/1.2/1"] == "started"
    later = Desk("hang")
    later.let("hang")
    outcome = completed(await again(comp, crashed, *later.handlers))
    assert outcome.value == ("B", "C")
    assert later.arrived == ["hang", "c"]
    assert later.keys[0] == "r/0/1.2/1"
    assert desk.keys[desk.arrived.index("hang")] == "r/0/1.2/1"


async def test_a_call_that_was_made_and_not_recorded() -> None:
    """A crash between the answer of a receiver and its record: both attempts bear one key."""
    desk, log = Desk(), Log()
    left: list[bytes] = []

    async def write(request: Any, perform: Any) -> Any:
        answer = await perform(request)
        if b"b" in bytes(request.effect.name, "ascii"):
            left.append(log.to_json())
        return answer

    comp = Parallel.all(calls("a"), calls("b"))
    completed(await start(comp, *desk.handlers, into=log, intercept=[write]))
    later = Desk()
    assert completed(await again(comp, Log.from_json(left[0]), *later.handlers)).value == ("A", "B")
    assert "b" in later.arrived
    assert later.keys[later.arrived.index("b")] == desk.keys[desk.arrived.index("b")]


async def test_a_handler_fails_while_a_sibling_suspends() -> None:
    """A failure beside an open question: the question is closed, the error arrives, now or in the resume it meets."""
    desk = Desk("bad", errors={"bad": ValueError("bad")})
    comp = caught(Parallel.all(asks("a"), calls("bad")))
    async with open_session(comp_of(comp), *desk.handlers) as session:
        await desk.at("bad").wait()
        while not session.log.waits:
            await anyio.lowlevel.checkpoint()
        crashed = stored(session.log)
        desk.let("bad")
        outcome = completed(await session.outcome())
    assert outcome.value == "bad"
    assert outcome.log.waits == []
    later = Desk(errors={"bad": ValueError("bad")})
    resumed = completed(await again(comp_of(comp), crashed, *later.handlers))
    assert resumed.value == "bad"
    assert later.arrived == ["bad"]


def comp_of(comp: Computation[Any]) -> Computation[Any]:
    """*comp*, whose arguments no log could hold, as the root of a run."""

    @computation(name="strands:root")
    async def root() -> Effectful[Any]:
        yield Return((yield comp))

    return root()


async def test_a_handler_that_fails_because_it_is_suspended() -> None:
    """7.7 What a call makes of being stopped is no answer: while all strands suspend, nothing of it is recorded."""
    entered = anyio.Event()

    async def driver(effect: Call) -> str:
        entered.set()
        try:
            await anyio.sleep_forever()
        except BaseException as error:
            message = "connection closed"
            raise ConnectionError(message) from error
        return "never"

    comp = Parallel.all(Ask("a"), Call("b"))
    async with open_session(comp, Call.handled_by(driver)) as session:
        await entered.wait()
        while not session.log.waits:
            await anyio.lowlevel.checkpoint()
    assert states(session.log) == {"0/1": "started", "0/1.1/1": "started", "0/1.2/1": "started"}
    outcome = completed(await again(comp, session.log, *Desk().handlers, answer="yes"))
    assert outcome.value == ("yes", "B")


@pytest.mark.parametrize("deep", [False, True], ids=["flat", "deep"])
async def test_winner_recorded_crash_before_losers_are_cleaned(deep: bool) -> None:
    """The winner stands in the log, the process ends before a loser is stopped: it wins all the same.

    A loser's call is not made again, its cleanup is performed once, and the next resume has nothing left to do.
    """
    log = Log()
    left: list[bytes] = []

    @computation(name="strands:loser")
    async def loser() -> Effectful[str]:
        try:
            yield Call("hang")
        finally:
            left.append(log.to_json())
        yield Return("")

    desk = Desk("x")
    slow: Computation[Any] = loser().ensure(Release("slow"))
    if deep:
        slow = Parallel.all(slow, Parallel.race(a=asks("a").ensure(Release("deep")))).ensure(Release("around"))
    comp = Parallel.race(slow=slow, quick=calls("x"))
    async with open_session(comp, *desk.handlers, into=log, id="r") as session:
        await desk.at("hang").wait()
        while deep and not log.waits:
            await anyio.lowlevel.checkpoint()
        desk.let("x")
        whole = completed(await session.outcome())
    crashed = Log.from_json(left[0])
    assert crashed.entries[0].strands
    assert crashed.entries[0].strands.won == "quick"
    assert crashed.entries[0].state == "started"
    later = Desk()
    outcome = completed(await again(comp, crashed, *later.handlers))
    assert outcome.value == Won("quick", "X")
    assert sorted(later.arrived) == (["release around", "release deep", "release slow"] if deep else ["release slow"])
    assert states(outcome.log) == states(whole.log)
    await comes_to_the_same(comp, outcome)


async def test_error_recorded_crash_before_siblings_are_cleaned() -> None:
    """Who failed stands in the log, the process ends before the siblings are stopped: the same error, their cleanup."""
    log = Log()
    left: list[bytes] = []

    @computation(name="strands:sibling")
    async def sibling() -> Effectful[str]:
        try:
            yield Call("hang")
        finally:
            left.append(log.to_json())
        yield Return("")

    desk = Desk("bad", errors={"bad": ValueError("bad")})
    comp = comp_of(caught(Parallel.all(sibling().ensure(Release("a")), calls("bad"), asks("b").ensure(Release("b")))))
    async with open_session(comp, *desk.handlers, into=log) as session:
        await desk.at("hang").wait()
        while not log.waits:
            await anyio.lowlevel.checkpoint()
        desk.let("bad")
        whole = completed(await session.outcome())
    later = Desk()
    outcome = completed(await again(comp, Log.from_json(left[0]), *later.handlers))
    assert outcome.value == "bad"
    assert sorted(later.arrived) == ["release a", "release b"]
    assert states(outcome.log) == states(whole.log)


@pytest.mark.parametrize("how", ["race", "error"])
async def test_host_cancel_during_cleanup(how: str) -> None:
    """7.7 A host cancel while losers or siblings clean up: what was out stays started, and is done again by its key."""
    desk = Desk("release slow", errors={"bad": ValueError("bad")})
    slow = calls("hang").ensure(Release("slow"))
    comp: Computation[Any]
    if how == "race":
        comp = Parallel.race(slow=slow, quick=calls("x"))
    else:
        comp = comp_of(caught(Parallel.all(slow, calls("bad"))))
    log = await host_cancelled(comp, *desk.handlers, when=desk.at("release slow"), id="r")
    assert desk.running == set()
    assert list(states(log).values()).count("started") == 2
    later = Desk()
    outcome: Any = completed(await again(comp, log, *later.handlers))
    assert outcome.value == (Won("quick", "X") if how == "race" else "bad")
    assert later.arrived == ["release slow"]
    assert later.keys == desk.keys[-1:]
    await comes_to_the_same(comp, outcome)


# -- errors of the deployment ----------------------------------------------------------------------------------------


async def test_an_unhandled_effect_in_one_branch() -> None:
    """5.6 It is raised by the verb with the log; no sibling performs anything more, not even cleanup."""
    desk = Desk()

    @computation
    async def breaks() -> Effectful[str]:
        yield Call("first")
        for name in ("hang", "before a"):
            await desk.at(name).wait()
        yield Return((yield Missing()))

    comp = Parallel.all(calls("hang", "b").ensure(Release("call")), breaks(), asks("a").ensure(Release("question")))
    with pytest.raises(UnhandledEffectError, match="nothing handles Missing") as caught_:
        await start(comp, *desk.handlers, id="r")
    log = caught_.value.log
    assert f"{__file__}:" in str(caught_.value)
    assert sorted(desk.arrived) == ["before a", "first", "hang"]
    assert desk.running == set()
    assert log.header.status in ("running", "suspended")
    assert "discarded" not in states(log).values()

    later = Desk("hang")
    later.let("hang")
    for name in ("hang", "before a"):
        later.at(name).set()
    waiting = suspended(await again(comp, log, *later.handlers, FIXED))
    outcome = completed(await again(comp, waiting.log, *later.handlers, FIXED, answer="yes"))
    assert outcome.value == ("B", "fixed", "a: yes")
    assert "first" not in later.arrived
    assert "before a" not in later.arrived
    assert sorted(later.arrived) == ["after a", "b", "hang", "release call", "release question"]


@pytest.mark.parametrize("depth", [1, 3])
async def test_an_unhandled_effect_deep_down(depth: int) -> None:
    """5.6 However deep the branch, the verb raises it, and the whole tree stands still."""
    comp: Computation[Any] = Parallel.race(a=calls("x"), b=Missing()) if depth == 1 else Parallel.all(Missing())
    for _ in range(depth):
        comp = Parallel.all(comp, calls("hang"), asks("q"))
    desk = Desk()
    with pytest.raises(UnhandledEffectError) as caught_, anyio.fail_after(5):
        await start(comp, *desk.handlers)
    assert desk.running == set()
    assert not any(name.startswith("after") for name in desk.arrived)
    assert caught_.value.log.entries[0].state == "started"


async def test_an_unhandled_effect_in_a_parked_session() -> None:
    """5.6 In an open session the fault of one branch is raised by `outcome`, though another branch has an open wait."""

    @computation
    async def late() -> Effectful[str]:
        yield Ask("late")
        yield Return((yield Missing()))

    comp = Parallel.all(late(), asks("a"))
    async with open_session(comp, *Desk().handlers) as session:
        outcome = suspended(await session.outcome())
        await session.answer("go", to=next(wait for wait in outcome.waits if wait.id.endswith(".1/1")))
        with pytest.raises(UnhandledEffectError) as caught_:
            await session.outcome()
    assert len(caught_.value.log.waits) == 1
    resumed = completed(await again(comp, caught_.value.log, *Desk().handlers, FIXED, answer="yes"))
    assert resumed.value == ("fixed", "a: yes")


async def test_a_fault_is_not_caught_by_anybody() -> None:
    """5.8 No `except` around or inside the branches makes anything else of it."""

    @computation
    async def stubborn() -> Effectful[str]:
        for _ in range(3):
            try:
                yield Parallel.all(swallows(), calls("hang"))
            except BaseException:  # noqa: BLE001, S110 - the point of the test
                pass
        yield Return((yield Call("charge")))

    @computation
    async def swallows() -> Effectful[str]:
        try:
            yield Missing()
        except BaseException:  # noqa: BLE001, S110 - the point of the test
            pass
        yield Return((yield Call("charge")))

    desk = Desk()
    with pytest.raises(UnhandledEffectError):
        await start(stubborn(), *desk.handlers)
    assert "charge" not in desk.arrived


async def test_two_faults_at_once() -> None:
    """Where two branches are at fault, one of both is raised, and the other is found when that is fixed."""

    class Other(Effect[str], frozen=True):
        pass

    fixes: dict[str, Handler] = {"Missing": FIXED, "Other": Other.always("other")}
    comp = Parallel.all(Missing(), Other())
    with pytest.raises(UnhandledEffectError) as first:
        await start(comp)
    fixed = fixes.pop(first.value.effect)
    with pytest.raises(UnhandledEffectError, match=f"nothing handles {next(iter(fixes))}") as second:
        await again(comp, first.value.log, fixed)
    assert completed(await again(comp, second.value.log, fixed, *fixes.values())).value == ("fixed", "other")


async def test_a_fault_in_the_cleanup_of_a_loser() -> None:
    """5.6 A loser whose cleanup nobody handles is a fault of the deployment; after the fix the same has won."""
    comp = Parallel.race(quick=calls("x"), slow=calls("hang").ensure(Missing()))
    desk = Desk("x")
    with pytest.raises(UnhandledEffectError) as caught_:  # noqa: PT012
        async with open_session(comp, *desk.handlers) as session:
            await desk.at("hang").wait()
            desk.let("x")
            await session.outcome()
    later = Desk()
    outcome = completed(await again(comp, caught_.value.log, *later.handlers, FIXED))
    assert outcome.value == Won("quick", "X")
    assert later.arrived == []
    await comes_to_the_same(comp, outcome, FIXED)


async def test_divergence_in_one_branch() -> None:
    """6.4 A branch that asks for something else than its log holds: raised with the log and the line."""
    first = "a"

    @computation
    async def changed() -> Effectful[str]:
        yield Call(first)
        yield Return((yield Ask("b")))

    comp = Parallel.all(changed(), asks("c"), calls("d"))
    log = suspended(await start(comp, *Desk().handlers)).log
    first = "other"
    desk = Desk()
    with pytest.raises(DivergenceError, match="nothing was performed") as caught_:
        await again(comp, log, *desk.handlers)
    assert desk.arrived == []
    assert f"{__file__}:" in caught_.value.line
    assert caught_.value.entry == "0/1.1/1"
    assert '"other"' in caught_.value.received
    first = "a"
    answers = {wait.ref: "x" for wait in log.waits}
    resumed: Any = await again(comp, log, *desk.handlers, answers=answers)
    assert completed(resumed).value == ("x", "c: x", "D")


@pytest.mark.parametrize("wrong", ["value", "return", "data"])
async def test_misuse_in_one_branch(wrong: str) -> None:
    """5.6 A misuse in a branch is a fault like any other: raised with its line and the log."""

    @computation
    async def misuses() -> Effectful[str]:
        yield Call("a")
        if wrong == "value":
            yield "no effect"  # type: ignore[misc]  # pyright: ignore[reportReturnType]
        elif wrong == "data":
            yield Parcel(object())

    expected: type[DeploymentError] = {
        "value": NotAnEffectError,
        "return": MissingReturnError,
        "data": UnencodableError,
    }[wrong]
    desk = Desk()
    with pytest.raises(expected) as caught_:
        await start(Parallel.all(misuses(), calls("hang"), asks("b")), *desk.handlers, Parcel.always(""))
    assert isinstance(caught_.value.log, Log)
    assert __file__ in str(caught_.value)
    assert desk.running == set()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_request_in_a_child_task_of_a_branch() -> None:
    """5.4 A request in `asyncio.gather` inside a branch is refused, pointing to `Parallel`."""

    @computation
    async def gathers() -> Effectful[str]:
        yield Call("a")

        async def one() -> str:
            return await Call("b")

        found = await asyncio.gather(one(), one(), return_exceptions=True)
        yield Return(f"{found}")

    desk = Desk()
    with pytest.raises(OutsideStrandError, match="Parallel"):
        await start(Parallel.all(gathers(), calls("hang")), *desk.handlers)
    assert "b" not in desk.arrived


async def test_what_a_sibling_hands_over_belongs_to_whoever_awaits_it() -> None:
    """5.4 A coroutine that one branch made and another awaits requests in the name of the latter."""
    handed: list[Any] = []

    @computation
    async def hands() -> str:
        async def request() -> str:
            return await Call("handed")

        handed.append(request())
        await anyio.sleep_forever()
        return ""

    @computation
    async def takes() -> str:
        await Call("a")
        while not handed:
            await anyio.lowlevel.checkpoint()
        return await handed[0]  # type: ignore[no-any-return]

    desk = Desk()
    outcome = completed(await start(Parallel.race(a=hands(), b=takes()), *desk.handlers))
    assert outcome.value == Won("b", "HANDED")
    assert states(outcome.log)["0/1.b/2"] == "executed"
