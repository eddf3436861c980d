"""DESIGN 6.5: ``allow_divergence=True`` aligns the log with a changed computation, and never performs a call twice."""

import anyio
import pytest

from skuld_async import (
    Clock,
    Divergence,
    Effectful,
    Log,
    OtherQuestionError,
    Return,
    computation,
    mark_loop,
    open_session,
    resume,
    start,
)

from .shop import Approval, Charge, Comment, Notify, World, completed, ids, left, limit, names, stored, suspended, total


@computation(name="job")
async def before() -> Effectful[str]:
    yield Charge(1)
    yield Charge(2)
    yield total.put(1)
    answer = yield Approval(1)
    yield Return(answer)


async def parked(world: World) -> Log:
    return stored(suspended(await start(before(), *world.handlers, total.handler(0), id="r")).log)


async def test_an_effect_that_is_not_in_the_rest_of_the_log_is_new_and_performed() -> None:
    """6.5 An effect that is not in the rest of the log is new and performed; the outcome lists it."""

    @computation(name="job")
    async def after() -> Effectful[str]:
        yield Charge(1)
        yield Notify("new")
        yield limit.ask()
        yield Clock.now()
        yield Charge(2)
        yield total.put(1)
        answer = yield Approval(1)
        yield Return(answer)

    world = World()
    log = await parked(world)
    scope = [*world.handlers, total.handler(0), limit.handler(1)]
    outcome = suspended(await resume(after(), log, *scope, allow_divergence=True))

    assert outcome.divergence == Divergence(performed=("0/2~1", "0/3~1", "0/4~1"))
    assert ids(outcome.log) == ["0/1", "0/2~1", "0/3~1", "0/4~1", "0/2", "0/3", "0/4"]
    assert world.calls == ["charge 1", "charge 2", "notify new"]

    strict = completed(await resume(after(), stored(outcome.log), *scope, answer="yes"))
    assert strict.value == "yes"
    assert strict.divergence == Divergence()
    assert world.calls == ["charge 1", "charge 2", "notify new"]


async def test_entries_that_are_passed_over_are_dropped_but_kept() -> None:
    """6.5 An effect found further on marks the skipped entries as dropped; they stay in ``log.dropped``."""

    @computation(name="job")
    async def after() -> Effectful[str]:
        yield Charge(2)
        answer = yield Approval(1)
        yield Return(answer)

    world = World()
    outcome = suspended(await resume(after(), await parked(world), *world.handlers, allow_divergence=True))

    assert outcome.divergence == Divergence(dropped=("0/1", "0/3"))
    assert ids(outcome.log) == ["0/2", "0/4"]
    assert [entry.id for entry in stored(outcome.log).dropped] == ["0/1", "0/3"]
    assert completed(await resume(after(), stored(outcome.log), *world.handlers, answer="no")).value == "no"
    assert world.calls == ["charge 1", "charge 2"]


async def test_an_executed_external_effect_is_never_performed_again() -> None:
    """6.5 An executed external effect with equal sig and data is never performed again: swapped, or dropped before."""

    @computation(name="job")
    async def swapped() -> Effectful[str]:
        first = yield Charge(2)
        second = yield Charge(1)
        yield Approval(1)
        yield Return(f"{first}, {second}")

    @computation(name="job")
    async def none() -> Effectful[str]:
        yield Approval(1)
        yield Return("none")

    world = World()
    log = suspended(await resume(swapped(), await parked(world), *world.handlers, allow_divergence=True)).log
    assert ids(log) == ["0/2", "0/1", "0/4"]
    assert [entry.id for entry in log.dropped] == ["0/3"]
    outcome = completed(await resume(swapped(), stored(log), *world.handlers, answer="yes"))
    assert outcome.value == "receipt 2, receipt 1"

    log = suspended(await resume(none(), await parked(world), *world.handlers, allow_divergence=True)).log
    log = suspended(await resume(before(), stored(log), *world.handlers, total.handler(0), allow_divergence=True)).log
    assert names(log) == ["Charge", "Charge", "State[total].put", "Approval"]
    assert world.calls == ["charge 1", "charge 2"] * 2  # one pair for each of the two logs


async def test_a_dropped_call_that_was_not_settled_is_attempted_under_its_own_key() -> None:
    """6.2, 6.5 Two attempts at one call share their key, also where the first was dropped in between."""
    out = anyio.Event()

    async def hang(effect: Charge) -> str:
        out.set()
        await anyio.sleep_forever()
        return "never"

    @computation(name="job")
    async def charges() -> Effectful[str]:
        yield Return((yield Charge(1)))

    @computation(name="job")
    async def asks() -> Effectful[str]:
        yield Approval()
        yield Return((yield Charge(1)))

    async with open_session(charges(), Charge.handled_by(hang), id="r") as session:
        await out.wait()
    world = World()
    log = suspended(await resume(asks(), stored(session.log), *world.handlers, allow_divergence=True)).log
    completed(await resume(asks(), stored(log), *world.handlers, answer="yes", allow_divergence=True))

    assert world.keys == ["r/0/1"]


async def test_an_answer_goes_to_the_wait_with_the_same_question() -> None:
    """6.5 The answer goes to the wait with the same question digest."""

    @computation(name="job")
    async def moved() -> Effectful[str]:
        yield Notify("first")
        answer = yield Approval(1)
        yield Return(f"moved {answer}")

    @computation(name="job")
    async def another() -> Effectful[str]:
        answer = yield Approval(2)
        yield Return(f"another {answer}")

    world = World()
    log = await parked(world)
    outcome = completed(await resume(moved(), log, *world.handlers, answer="yes", allow_divergence=True))
    assert outcome.value == "moved yes"

    with pytest.raises(OtherQuestionError) as caught:
        await resume(another(), log, *world.handlers, answer="yes", allow_divergence=True)
    assert left(caught.value).waits[-1].ref in str(caught.value)


async def test_what_the_end_leaves_is_unconsumed() -> None:
    """6.5 The outcome lists performed, dropped, unconsumed: what was left when the computation ended."""

    @computation(name="job")
    async def shorter() -> Effectful[str]:
        yield Charge(1)
        yield Return("done")

    world = World()
    outcome = completed(
        await resume(shorter(), await parked(world), *world.handlers, total.handler(0), allow_divergence=True)
    )

    assert outcome.divergence == Divergence(unconsumed=("0/2", "0/3", "0/4"))
    assert ids(outcome.log) == ["0/1"]
    assert [entry.id for entry in outcome.log.dropped] == ["0/2", "0/3", "0/4"]
    assert world.calls == ["charge 1", "charge 2"]


async def test_a_resume_that_is_stopped_on_its_way_drops_nothing() -> None:
    """6.5, 7.7 A host cancel leaves no trace.

    What the new code had not come to yet is neither dropped nor performed again.
    """
    reached = anyio.Event()
    hold = True

    @computation(name="slow job")
    async def slow() -> Effectful[str]:
        yield Charge(1)
        reached.set()
        if hold:
            await anyio.sleep_forever()
        yield Charge(2)
        yield Approval()
        yield Return("done")

    world = World()
    hold = False
    log = suspended(await start(slow(), *world.handlers)).log
    hold, reached = True, anyio.Event()
    async with open_session(slow(), *world.handlers, log=log, allow_divergence=True) as session:
        await reached.wait()
    hold = False
    suspended(await resume(slow(), stored(session.log), *world.handlers))

    assert session.log.to_json() == log.to_json()
    assert world.calls == ["charge 1", "charge 2"]


async def test_a_mark_is_found_further_on() -> None:
    """6.5 A mark is aligned like any effect: what was in front of it is dropped, its carry is given back."""

    @computation(name="loop")
    async def old() -> Effectful[int]:
        yield Charge(1)
        number = 0
        while True:
            number = yield mark_loop("turn", int, carry=number)
            yield Comment()
            number += 1

    @computation(name="loop")
    async def new() -> Effectful[int]:
        number = 0
        while True:
            number = yield mark_loop("turn", int, carry=number)
            yield Comment()
            yield Return(number)
            return

    world = World()
    log = suspended(await start(old(), *world.handlers)).log
    for _ in range(4):
        log = suspended(await resume(old(), stored(log), *world.handlers, answer="on")).log
    outcome = suspended(await resume(new(), stored(log), *world.handlers, allow_divergence=True))

    assert outcome.divergence == Divergence(dropped=("0/1",))
    assert completed(await resume(new(), stored(outcome.log), *world.handlers, answer="on")).value == 4


async def test_a_log_that_fits_is_not_changed() -> None:
    """6.5 Where nothing diverges, ``allow_divergence`` changes nothing."""
    world = World()
    log = await parked(world)
    outcome = suspended(await resume(before(), log, *world.handlers, total.handler(0), allow_divergence=True))

    assert outcome.divergence == Divergence()
    assert outcome.log.to_json() == log.to_json()
