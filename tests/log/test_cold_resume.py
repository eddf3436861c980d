"""DESIGN 6.9: replayed entries are carried forward; the tenth cold resume works like the first."""

import pytest

from skuld_async import Clock, Completed, Effectful, Fresh, Log, Return, computation, mark_loop, resume, start

from .shop import (
    Charge,
    Comment,
    Notify,
    Placed,
    Shop,
    World,
    cart,
    completed,
    events,
    ids,
    limit,
    stored,
    suspended,
    total,
)


@computation
async def interview(questions: int) -> Effectful[str]:
    yield Shop.charge(1)
    yield Shop.reserve("book", 2)
    yield limit.ask()
    yield cart.put(["book"])
    answers: list[str] = []
    for number in range(questions):
        answers.append((yield Comment(f"question {number}")))
        yield total.modify(lambda count: count + 1)
        yield events.emit(Placed(number))
        yield Charge(number)
        yield Fresh.uuid()
        yield Clock.now()
    yield Return(",".join(answers))


@pytest.mark.parametrize("resumes", [3, 10])
async def test_every_cold_resume_holds_every_earlier_entry(resumes: int) -> None:
    """6.9 Replayed entries are carried forward.

    The third and the tenth cold resume hold every earlier entry, with Ports before the first Yield.
    """
    world = World()
    handlers = [*world.handlers, limit.handler(1), cart.handler([]), total.handler(0), events.handler()]
    outcome = await start(interview(resumes), *handlers)
    for number in range(resumes):
        before = suspended(outcome).log
        outcome = await resume(interview(resumes), stored(before), *handlers, answer=f"answer {number}")
        after = outcome.log
        assert ids(after)[: len(before.entries)] == ids(before)
        assert after.entries[: len(before.entries) - 1] == before.entries[:-1]

    done = completed(outcome)
    assert done.value == ",".join(f"answer {number}" for number in range(resumes))
    assert done.state(total) == resumes
    assert done.output(events) == [Placed(number) for number in range(resumes)]
    assert world.calls == ["charge 1", "reserve book", *(f"charge {number}" for number in range(resumes))]
    assert ids(done.log)[:4] == ["0/1", "0/2", "0/3", "0/4"]
    assert len(done.log.entries) == 4 + 6 * resumes


async def test_a_resume_without_an_answer_changes_nothing() -> None:
    """6.9 Resuming a run that waits, however often, gives the same log, byte for byte."""
    world = World()
    handlers = [*world.handlers, limit.handler(1), cart.handler([]), total.handler(0), events.handler()]
    log = suspended(await start(interview(2), *handlers)).log
    log = suspended(await resume(interview(2), stored(log), *handlers, answer="one")).log
    stood = log.to_json()
    for _ in range(10):
        log = suspended(await resume(interview(2), Log.from_json(log.to_json()), *handlers)).log

    assert log.to_json() == stood
    assert len(world.calls) == 3


async def test_the_callers_log_stays_as_it_is() -> None:
    """7, 6.9 A verb writes to a log of its own: the one it was given can be resumed again, with another answer."""
    world = World()
    handlers = [*world.handlers, limit.handler(1), cart.handler([]), total.handler(0), events.handler()]
    log = suspended(await start(interview(1), *handlers)).log
    stood = log.to_json()

    values = [completed(await resume(interview(1), log, *handlers, answer=answer)).value for answer in ("a", "b")]

    assert values == ["a", "b"]
    assert log.to_json() == stood


async def test_a_loop_with_ports_before_it_carries_them_forward() -> None:
    """6.9, 6.10 What stands before the first mark is never pruned and never performed again."""

    @computation
    async def looping() -> Effectful[str]:
        first = yield Shop.charge(1)
        turn = 0
        while True:
            turn = yield mark_loop("turn", int, carry=turn)
            yield Comment()
            yield Notify(str(turn))
            turn += 1
            if turn == 10:
                yield Return(first)
                return

    world = World()
    outcome = await start(looping(), *world.handlers)
    while not isinstance(outcome, Completed):
        outcome = await resume(looping(), stored(outcome.log), *world.handlers, answer="on")

    assert outcome.value == "receipt 1"
    assert world.calls == ["charge 1", *(f"notify {turn}" for turn in range(10))]
    assert ids(outcome.log)[0] == "0/1"
