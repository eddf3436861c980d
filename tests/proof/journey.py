"""The journey: a workflow of twenty external steps, with all that a log has to bring back between them."""

from datetime import timedelta
from typing import Any, Literal, NoReturn, Protocol

import msgspec

from skuld_async import (
    Clock,
    Completed,
    Effectful,
    Handler,
    Log,
    OutcomeUnknown,
    Parallel,
    Port,
    Return,
    State,
    Yield,
    bracket,
    computation,
    current_call,
    operation,
    replay,
)
from skuld_async._context import current_strand
from skuld_async.durable.scribe import Scribe
from skuld_async.log.strands import LoggedStrand

from .books import Call, answer_to

WALK, RIDE = 5, 6
PAUSE = timedelta(seconds=0.2)


class Steps(Port, Protocol):
    @operation
    async def do(self, step: str, value: int) -> int: ...

    @operation(at_most_once=True)
    async def once(self, step: str, value: int) -> int: ...


class Proceed(Yield[Literal["left", "right"]], frozen=True):
    number: int


class Arrived(msgspec.Struct, frozen=True):
    value: int
    total: int
    began: int
    """Of the time that was read: if it were not kept, the steps behind it would be called with other values."""
    known: int | None
    """What came of the call that is made at most once; None where that was lost."""


total = State("proof.total", int)


@computation(name="proof:room")
async def room(key: int) -> Effectful[int]:
    first = yield Steps.do("use-1", key)
    second = yield Steps.do("use-2", first)
    yield total.modify(lambda so_far: so_far + second)
    yield Return(second)


@computation(name="proof:journey")
async def journey(number: int) -> Effectful[Arrived]:
    value = number
    for step in range(WALK):
        value = yield Steps.do(f"walk-{step}", value)
        yield total.put(value)
    began = (yield Clock.now()).microsecond
    sides = yield Parallel.all(
        Steps.do("side-1", value), Steps.do("side-2", value + began), Steps.do("side-3", value + 1)
    )
    value = sum(sides)
    value = yield bracket(Steps.do("open", value), room, lambda key: Steps.do("close", key))
    yield Clock.sleep(PAUSE)
    known: int | None = None
    try:
        known = yield Steps.once("once", value)
    except OutcomeUnknown:
        pass
    value = yield Steps.do("ask", value)
    choice = yield Proceed(number).named("proceed")
    for step in range(RIDE):
        value = yield Steps.do(f"{choice}-{step}", value)
    yield Return(Arrived(value, (yield total.get()), began, known))


def choice_of(number: int) -> Literal["left", "right"]:
    """The answer that the run of that number gets."""
    return "right" if number % 2 else "left"


def arrival(number: int, began: int, *, known: bool) -> Arrived:
    """What that run has to return, worked out without the library."""
    value = number
    for step in range(WALK):
        value = answer_to(f"walk-{step}", value)
    sum_ = value
    value = answer_to("side-1", value) + answer_to("side-2", value + began) + answer_to("side-3", value + 1)
    value = answer_to("use-2", answer_to("use-1", answer_to("open", value)))
    sum_ += value
    once = answer_to("once", value)
    value = answer_to("ask", value)
    for step in range(RIDE):
        value = answer_to(f"{choice_of(number)}-{step}", value)
    return Arrived(value, sum_, began, once if known else None)


def lease() -> tuple[str, int, str]:
    """Run, fencing token and worker under which the call at hand is made."""
    strand = current_strand.get()
    assert isinstance(strand, LoggedStrand)
    scribe = strand.journal.book.keeper
    assert isinstance(scribe, Scribe)
    return scribe.record.id, scribe.record.token, scribe.record.owner or ""


def call_of(step: str, value: int, *, once: bool) -> Call:
    """The call at hand, as the counter is told of it."""
    run, token, worker = lease()
    return Call(run, current_call().key, step, value, token, worker, once)


class _Silent:
    """The port in a replay, which calls nothing."""

    async def do(self, step: str, value: int) -> NoReturn:
        raise AssertionError(f"{step} {value} is called in a replay")

    async def once(self, step: str, value: int) -> NoReturn:
        raise AssertionError(f"{step} {value} is called in a replay")


SILENT = _Silent()
"""Where nothing may be called: it moves no runs."""


def handlers(port: Any) -> list[Handler]:
    """The outermost scope of a journey."""
    return [Steps.handler(port), total.handler(0)]


async def problem_of(number: int, result: Arrived, log: Log) -> str | None:
    """What is wrong with the result of a run, or with its log; None if nothing is."""
    expected = arrival(number, result.began, known=result.known is not None)
    if result != expected:
        return f"it returned {result}, not {expected}"
    try:
        outcome = await replay(journey(number), log, *handlers(SILENT))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        return f"its log cannot be replayed: {error!r}"
    if not isinstance(outcome, Completed) or outcome.value != result:
        return f"the replay of its log gives {outcome}"
    return None
