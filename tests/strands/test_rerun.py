"""`rerun` of concurrent runs: what failed is performed again, the others go on from where they were stopped."""

from datetime import timedelta
from typing import Any, NamedTuple

import anyio
import pytest

from skuld_async import (
    Channel,
    Completed,
    Computation,
    Effect,
    Effectful,
    Failed,
    Handler,
    Log,
    Outcome,
    Parallel,
    RerunRefusedError,
    Return,
    Suspended,
    Transaction,
    Won,
    bracket,
    computation,
    fork,
    join,
    open_session,
    rerun,
    start,
    transact,
    with_timeout,
)

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    calls,
    comes_to_the_same,
    completed,
    failed,
    notes,
    states,
    stored,
    suspended,
)

RUN = "run"
memory = Transaction.in_memory()


class Fetch(Effect[str], frozen=True):
    """Its handler calls by itself."""

    name: str


@computation
async def fetch(effect: Fetch) -> Effectful[str]:
    """In branches of its own."""
    yield notes.tell(f"fetches {effect.name}")
    yield Call(f"one {effect.name}")
    both = yield Parallel.all(calls(f"two {effect.name}", effect.name), calls(f"three {effect.name}"))
    yield Return(both[0])


@computation
async def plain_fetch(effect: Fetch) -> Effectful[str]:
    yield Call(f"one {effect.name}")
    yield Return((yield Call(effect.name)))


class Failure(NamedTuple):
    outcome: Failed
    desk: Desk


async def fail(comp: Computation[Any], *handlers: Handler, bad: tuple[str, ...] = ("bad",)) -> Failure:
    """Run *comp* until all that can move has moved, then let the calls of *bad* fail at the same time."""
    desk = Desk(*bad, errors={name: ValueError(name) for name in bad})
    async with open_session(comp, *desk.handlers, *handlers, id=RUN) as session:
        for name in bad:
            await desk.at(name).wait()
        await anyio.wait_all_tasks_blocked()
        desk.let(*bad)
        outcome = failed(await session.outcome())
    await comes_to_the_same(comp, outcome, *handlers)
    return Failure(outcome, desk)


def mended(*hanging: str) -> Desk:
    """Where nothing fails, and nothing hangs."""
    desk = Desk(*hanging)
    desk.let(*hanging)
    return desk


def check_keys(before: Failure, log: Log, desk: Desk) -> None:
    """What was answered is not called again; what is called again has its own key, and what is new a new one."""
    answered = {f"{RUN}/{one.id}" for one in before.outcome.log.entries if one.state == "executed"}
    first = dict(zip(before.desk.keys, before.desk.arrived, strict=True))
    for key, name in zip(desk.keys, desk.arrived, strict=True):
        assert key not in answered
        assert first.get(key, name) == name
        assert key in first or "~" in key
    assert len(set(desk.keys)) == len(desk.keys)
    states(log)


async def run_again(
    comp: Computation[Any], before: Failure, *handlers: Handler, force: bool = False
) -> tuple[Outcome[Any], Desk]:
    """The rerun, where nothing fails and nothing hangs."""
    stood = before.outcome.log.to_json()
    desk = mended("hang", "hang2", "hang3")
    outcome = await rerun(comp, stored(before.outcome.log), *desk.handlers, *handlers, force=force)
    check_keys(before, outcome.log, desk)
    assert before.outcome.log.to_json() == stood
    if isinstance(outcome, Completed):
        await comes_to_the_same(comp, outcome, *handlers)
    return outcome, desk


@computation
async def sibling() -> Effectful[str]:
    """Is stopped in the middle."""
    yield notes.tell("sibling")
    yield Call("s1")
    yield Call("hang")
    yield Return((yield Call("s3")))


@computation
async def in_transaction(comp: Computation[Any]) -> Effectful[Any]:
    yield Return((yield transact(comp)))


@computation
async def forks(comp: Computation[Any]) -> Effectful[Any]:
    """Waits for a task."""
    task = yield fork(comp)
    yield Call("beside")
    yield Return((yield join(task)))


@computation
async def fetches() -> Effectful[str]:
    yield Return((yield Fetch("bad")))


def nothing(_answer: str) -> Computation[str]:
    return calls("a", "bad")


SHAPES: dict[str, Computation[Any]] = {
    "branch": calls("a", "bad"),
    "nested branch": Parallel.all(calls("a", "bad"), calls("b")),
    "deeper branch": Parallel.all(Parallel.map(calls, ["b", "bad"], limit=1), calls("b2")),
    "race": Parallel.race(a=calls("a", "bad"), b=calls("hang2")),
    "time limit": with_timeout(calls("a", "bad"), timedelta(hours=1)),
    "task": forks(calls("a", "bad")),
    "task in a branch": Parallel.all(forks(calls("a", "bad")), calls("b")),
    "branch in a task": forks(Parallel.all(calls("a", "bad"), calls("b", "hang2"))),
    "bracket": bracket(Call("room"), nothing, lambda _: calls()),
    "handler with branches": fetches(),
}


@pytest.mark.parametrize("shape", SHAPES)
async def test_what_failed_is_performed_again_wherever_it_is(shape: str) -> None:
    """6.7 The effect that failed the run is performed again under its own key, in whatever strand it was."""
    own = [Fetch.handled_by(fetch)]
    comp = Parallel.all(SHAPES[shape], sibling())
    before = await fail(comp, *own)
    outcome, desk = await run_again(comp, before, *own)
    assert isinstance(outcome, Completed), outcome
    assert outcome.value[1] == "S3"
    keys = dict(zip(before.desk.arrived, before.desk.keys, strict=True))
    for name, key in zip(desk.arrived, desk.keys, strict=True):
        assert key == keys.get(name, key)
    assert {"bad", "hang", "s3"} <= set(desk.arrived)
    assert set(desk.arrived).isdisjoint({"a", "b", "b2", "s1", "room", "beside", "one bad", "two bad", "three bad"})


@pytest.mark.parametrize("handler", [fetch, plain_fetch])
async def test_siblings_stand_where_they_were_before_they_were_stopped(handler: Any) -> None:
    """6.7 A sibling goes on from there, whatever it was in: a handler, branches, tasks that run beside it, a race."""

    @computation
    async def tasks() -> Effectful[str]:
        task = yield fork(calls("t1", "hang2", "t3"))
        yield Call("t4")
        yield Call("hang3")
        yield Return((yield join(task)))

    @computation
    async def asks_the_handler() -> Effectful[str]:
        yield Return((yield Fetch("hang")))

    comp = Parallel.all(
        calls("a", "bad"),
        tasks(),
        Parallel.all(asks_the_handler(), Parallel.race(only=calls("r1", "hang2"))),
    )
    own = [Fetch.handled_by(handler)]
    before = await fail(comp, *own)
    outcome, desk = await run_again(comp, before, *own)
    assert completed(outcome).value == ("BAD", "T3", ("HANG", Won("only", "HANG2")))
    assert sorted(desk.arrived) == ["bad", "hang", "hang2", "hang2", "hang3", "t3"]


async def test_tasks_beside_the_failed_one_go_on() -> None:
    """6.7 The tasks of an activation, and what it waited for itself, go on from where the failure stopped them."""

    @computation
    async def body() -> Effectful[list[str]]:
        first = yield fork(calls("a", "bad"))
        second = yield fork(calls("b", "hang"))
        yield Call("c")
        waited = yield Parallel.all(calls("hang2"), calls("d", "hang3"))
        yield Return([*waited, (yield join(first)), (yield join(second))])

    before = await fail(body())
    outcome, desk = await run_again(body(), before)
    assert completed(outcome).value == ["HANG2", "HANG3", "BAD", "HANG"]
    assert sorted(desk.arrived) == ["bad", "hang", "hang2", "hang3"]


async def test_a_question_of_a_sibling_is_open_again() -> None:
    """6.7 A question that was stopped with the failure is asked again; its answer goes on from there."""

    @computation
    async def asks() -> Effectful[str]:
        yield Call("q")
        yield Return((yield Ask("what")))

    comp = Parallel.all(asks(), calls("a", "bad"))
    before = await fail(comp)
    outcome, desk = await run_again(comp, before)
    assert [wait.id for wait in suspended(outcome).waits] == ["0/1.1/2"]
    assert desk.arrived == ["bad"]
    ended = completed(await again(comp, outcome.log, *Desk().handlers, answer="x"))
    assert ended.value == ("x", "BAD")


async def test_the_rest_of_a_limited_map_is_started() -> None:
    """6.7 Branches that the failure kept from starting are started, under new keys."""
    comp = Parallel.map(calls, ["a", "bad", "c", "d"], limit=1)
    before = await fail(comp)
    outcome, desk = await run_again(comp, before)
    assert completed(outcome).value == ["A", "BAD", "C", "D"]
    assert dict(zip(desk.arrived, desk.keys, strict=True)) == {
        "bad": "run/0/1.2/1",
        "c": "run/0/1.3/1~1",
        "d": "run/0/1.4/1~1",
    }


# -- transactions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("inside", [calls("t1", "bad"), Parallel.all(calls("t1", "bad"), calls("t2", "hang2"))])
async def test_a_transaction_in_a_branch_is_performed_again(inside: Computation[Any]) -> None:
    """6.7 It left no trace: all of it is performed again, under the same keys; its sibling goes on."""
    comp = Parallel.all(in_transaction(inside), sibling())
    before = await fail(comp, memory)
    desk = mended("hang", "hang2")
    outcome = completed(await rerun(comp, stored(before.outcome.log), *desk.handlers, memory))
    assert {"t1", "bad", "hang", "s3"} <= set(desk.arrived)
    assert "s1" not in desk.arrived
    first = dict(zip(before.desk.arrived, before.desk.keys, strict=True))
    assert all(first.get(name, key) == key for name, key in zip(desk.arrived, desk.keys, strict=True))
    states(outcome.log)
    await comes_to_the_same(comp, outcome, memory)


async def test_a_transaction_around_branches_is_performed_again() -> None:
    """6.7 The whole transaction, with all of its branches, and nothing before it."""

    @computation
    async def body() -> Effectful[tuple[str, str]]:
        yield Call("before")
        both = yield in_transaction(Parallel.all(calls("t1", "bad"), calls("t2", "hang")))
        yield Call("after")
        yield Return(both)

    before = await fail(body(), memory)
    desk = mended("hang")
    outcome = completed(await rerun(body(), stored(before.outcome.log), *desk.handlers, memory))
    assert outcome.value == ("BAD", "HANG")
    assert sorted(desk.arrived) == ["after", "bad", "hang", "t1", "t2"]
    await comes_to_the_same(body(), outcome, memory)


async def test_a_transaction_of_a_sibling_is_performed_again() -> None:
    """6.7 One that was stopped with the failure was rolled back, so nothing of it stands in the way."""
    comp = Parallel.all(calls("a", "bad"), in_transaction(calls("t1", "hang").ensure(Release("t2"))))
    before = await fail(comp, memory)
    desk = mended("hang")
    outcome = completed(await rerun(comp, stored(before.outcome.log), *desk.handlers, memory))
    assert outcome.value == ("BAD", "HANG")
    assert sorted(desk.arrived) == ["bad", "hang", "release t2", "t1"]
    await comes_to_the_same(comp, outcome, memory)


# -- what stands in the way ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "cleaned", [calls("hang").ensure(Release("door")), forks(calls("hang").ensure(Release("door")))]
)
async def test_the_cleanup_of_a_sibling_stands_in_the_way(cleaned: Computation[Any]) -> None:
    """6.7 Refused where the failure made a sibling do something outside; forced, it goes on as if that were undone."""
    comp = Parallel.all(cleaned, calls("a", "bad"))
    before = await fail(comp)
    stood = before.outcome.log.to_json()
    with pytest.raises(RerunRefusedError, match=r"it went on after 0/1\.2/2 failed \(") as caught:
        await rerun(comp, before.outcome.log, *Desk().handlers)
    assert caught.value.log is not None
    assert before.outcome.log.to_json() == stood
    outcome, desk = await run_again(comp, before, force=True)
    assert isinstance(outcome, Completed)
    assert sorted(desk.arrived) == ["bad", "hang", "release door"]
    assert [one.sig.rpartition(":")[2] for one in outcome.log.dropped] == ["Release"]


async def test_what_the_body_did_about_it_stands_in_the_way() -> None:
    """6.7 A call that the root made because of the failure refuses the rerun; its notes do not."""

    @computation
    async def body(calls_too: bool) -> Effectful[str]:
        try:
            both = yield Parallel.all(calls("a", "bad"), calls("b"))
        except ValueError:
            yield notes.tell("failed")
            if calls_too:
                yield Call("alarm")
            raise
        yield Return("".join(both))

    before = await fail(body(calls_too=True))
    with pytest.raises(RerunRefusedError, match="it went on after"):
        await rerun(body(calls_too=True), before.outcome.log, *Desk().handlers)
    before = await fail(body(calls_too=False))
    outcome, desk = await run_again(body(calls_too=False), before)
    assert completed(outcome).value == "BADB"
    assert desk.arrived == ["bad"]
    assert outcome.output(notes) == []


async def test_what_strands_said_to_one_another_does_not_stand_in_the_way() -> None:
    """6.7 Values of channels stay inside the process: none is lost by the rerun, and none is received twice."""
    queue = Channel("rerun.queue", str, capacity=1)

    @computation
    async def sends() -> Effectful[None]:
        for name in ("a", "b", "bad"):
            made = yield Call(name)
            yield queue.send(made)
        yield queue.close()

    @computation
    async def receives() -> Effectful[list[str]]:
        got: list[str] = []
        for _ in range(3):
            value = yield queue.receive()
            got.append(value)
            yield Call(f"use {value}")
        yield Return(got)

    comp = Parallel.all(sends(), receives())
    before = await fail(comp, queue.handler())
    outcome, desk = await run_again(comp, before, queue.handler())
    assert completed(outcome).value == (None, ["A", "B", "BAD"])
    assert desk.arrived == ["bad", "use BAD"]


async def test_what_was_received_after_the_failure_is_received_again() -> None:
    """6.7 What a strand took from a channel behind the cut is there again, though others have taken later values."""
    queue = Channel("rerun.rest", str, capacity=3)

    @computation
    async def takes() -> Effectful[str]:
        try:
            last = yield Call("bad")
        except ValueError:
            yield queue.receive()
            yield queue.send("later")
            raise
        yield Return(last + (yield queue.receive()))

    @computation
    async def body() -> Effectful[list[str]]:
        yield queue.send("one")
        yield queue.send("two")
        both = yield Parallel.all(takes(), others())
        yield Return(list(both))

    @computation
    async def others() -> Effectful[str]:
        try:
            yield Call("hang")
        finally:
            pass
        yield Return((yield queue.receive()))

    before = await fail(body(), queue.handler())
    outcome, _ = await run_again(body(), before, queue.handler())
    assert sorted(completed(outcome).value[0][3:] + completed(outcome).value[1]) == sorted("onetwo")


# -- several failures ----------------------------------------------------------------------------------------------


async def test_a_branch_that_raised_by_itself() -> None:
    """6.7 Where no effect failed but the code, the branches are run again from what they did, with today's code."""
    broken = [True]

    @computation
    async def buggy() -> Effectful[str]:
        yield Call("a")
        yield Call("gate")
        if broken:
            raise KeyError("bug")
        yield Return((yield Call("b")))

    comp = Parallel.all(buggy(), sibling())
    desk = Desk("gate")
    async with open_session(comp, *desk.handlers, id=RUN) as session:
        await desk.at("gate").wait()
        await anyio.wait_all_tasks_blocked()
        desk.let("gate")
        before = Failure(failed(await session.outcome()), desk)
    broken.clear()
    outcome, later = await run_again(comp, before)
    assert completed(outcome).value == ("B", "S3")
    assert sorted(later.arrived) == ["b", "hang", "s3"]


class Twice(Effect[str], frozen=True):
    """Its handler fails two branches in the same moment."""

    name: str


async def test_all_effects_of_a_group_are_performed_again() -> None:
    """6.7 Where several branches failed, each effect that failed one is performed again, by one rerun."""
    broken, served = [True], list[str]()

    def serve(effect: Twice) -> str:
        if broken:
            raise ValueError(effect.name)
        served.append(effect.name)
        return effect.name.upper()

    @computation
    async def twice(name: str) -> Effectful[str]:
        yield Ask(name)
        said = yield Twice(name)
        yield Return(said + (yield Call(name)))

    comp = Parallel.all(twice("x"), twice("y"), twice("z"), calls("hang"))
    own = [Twice.handled_by(serve)]
    waiting = suspended(await start(comp, *(desk := mended("hang")).handlers, *own, id=RUN))
    assert desk.arrived == ["hang"]
    given = {wait.ref: "yes" for wait in waiting.waits}
    outcome = failed(await again(comp, waiting.log, *Desk().handlers, *own, answers=given))
    error: Any = outcome.error
    assert len(error.exceptions) == 3
    broken.clear()
    ended, later = await run_again(comp, Failure(outcome, desk), *own)
    assert completed(ended).value == ("XX", "YY", "ZZ", "HANG")
    assert sorted(served) == sorted(later.arrived) == ["x", "y", "z"]


async def test_what_failed_in_the_cleanup_of_a_sibling_is_not_the_cause() -> None:
    """6.7 In a group, the effect that failed by itself is run again; a cleanup that failed because of it came after."""
    comp = Parallel.all(calls("hang").ensure(Call("bad2")), calls("a", "bad"))
    desk = Desk("bad", errors={"bad": ValueError("bad"), "bad2": KeyError("bad2")})
    async with open_session(comp, *desk.handlers, id=RUN) as session:
        await desk.at("bad").wait()
        await anyio.wait_all_tasks_blocked()
        desk.let("bad")
        outcome = failed(await session.outcome())
    assert isinstance(outcome.error, ExceptionGroup)
    before = Failure(outcome, desk)
    with pytest.raises(RerunRefusedError, match=r"it went on after 0/1\.2/2 failed \(0/1\.1/2\)"):
        await rerun(comp, outcome.log, *Desk().handlers)
    ended, later = await run_again(comp, before, force=True)
    assert completed(ended).value == ("HANG", "BAD")
    assert sorted(later.arrived) == ["bad", "bad2", "hang"]


async def test_errors_that_the_body_collected_are_run_again_one_by_one() -> None:
    """6.7 What `settle` gave is an answer: a body that raises several is run again from the first, each time."""
    comp = Parallel.all(calls("a", "bad"), calls("b", "bad2"), settle=True)

    @computation
    async def body() -> Effectful[list[Any]]:
        both = yield comp
        errors = [one for one in both if isinstance(one, Exception)]
        if errors:
            raise ExceptionGroup("both", errors)
        yield Return(list(both))

    before = await fail(body(), bad=("bad", "bad2"))
    ended: Outcome[Any] = before.outcome
    arrived: list[str] = []
    rounds = 0
    while isinstance(ended, Failed):
        desk = Desk()
        ended = await rerun(body(), stored(ended.log), *desk.handlers)
        arrived += desk.arrived
        rounds += 1
    assert completed(ended).value == ["BAD", "BAD2"]
    assert sorted(arrived) == ["bad", "bad2"]
    assert rounds == 2


async def test_a_rerun_may_fail_again() -> None:
    """6.7 The rerun of a rerun works as the first: keys are unique over all of them."""
    comp = Parallel.all(calls("a", "bad", "bad2", "c"), sibling())
    before = await fail(comp, bad=("bad",))
    log, keys = before.outcome.log, dict(zip(before.desk.keys, before.desk.arrived, strict=True))
    for bad in (("bad",), ("bad2",), ("bad2",), ()):
        desk = Desk("hang", errors={name: ValueError(name) for name in bad})
        if not bad:
            desk.let("hang")
        outcome = await rerun(comp, stored(log), *desk.handlers)
        for key, name in zip(desk.keys, desk.arrived, strict=True):
            assert keys.setdefault(key, name) == name
        assert isinstance(outcome, Failed) is bool(bad)
        log = outcome.log
    assert completed(outcome).value == ("C", "S3")
    assert list(keys.values()).count("bad") == list(keys.values()).count("bad2") == 1
    await comes_to_the_same(comp, outcome)


async def test_a_run_that_waits_is_not_run_again() -> None:
    """6.7 Only failed runs are: one whose other branches wait is suspended, and says so."""
    outcome = await start(Parallel.all(Ask("a"), calls("b")), *Desk().handlers)
    assert isinstance(outcome, Suspended)
    with pytest.raises(RerunRefusedError, match="not failed"):
        await rerun(Parallel.all(Ask("a"), calls("b")), outcome.log, *Desk().handlers)
