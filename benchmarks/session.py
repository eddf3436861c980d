"""How long does an approval take, from start to suspension and from its log to its result, all in memory?

Nothing is asked of these figures. They tell what one request of a web application pays.
"""

from __future__ import annotations

import gc
import statistics
import time
from typing import Literal, Protocol

from harness import Figure, Sizes, main
from msgspec import Struct

from skuld_async import (
    Completed,
    Effectful,
    EventAccumulator,
    Log,
    Port,
    Return,
    Suspended,
    Yield,
    computation,
    operation,
    resume,
    start,
)

RUNS = 200


class Purchase(Struct, frozen=True):
    number: str
    cents: int


class ApprovalNeeded(Yield[Literal["approved", "rejected"]], frozen=True):
    purchase: Purchase


class Decided(Struct, frozen=True, tag=True):
    number: str
    decision: str


class Validator(Port, Protocol):
    @operation
    async def validate(self, purchase: Purchase) -> Purchase: ...


class InMemory:
    """A validator that awaits nothing."""

    async def validate(self, purchase: Purchase) -> Purchase:
        return purchase


events = EventAccumulator("approval.events", Decided)


@computation
async def approval(purchase: Purchase) -> Effectful[str]:
    valid = yield Validator.validate(purchase)
    decision = yield ApprovalNeeded(valid)
    yield events.emit(Decided(valid.number, decision))
    yield Return(decision)


async def measure(sizes: Sizes) -> list[Figure]:
    handlers = [Validator.handler(InMemory()), events.handler()]
    comp = approval(Purchase("req-42", 12_999))
    times: dict[str, list[float]] = {"start to suspension": [], "log to JSON and back": [], "resume to result": []}
    text = packed = b""
    gc.collect()
    for _ in range(sizes.count(RUNS)):
        began = time.thread_time_ns()
        waiting = await start(comp, *handlers)
        suspended = time.thread_time_ns()
        text = waiting.log.to_json()
        log = Log.from_json(text)
        read = time.thread_time_ns()
        outcome = await resume(comp, log, *handlers, answer="approved")
        ended = time.thread_time_ns()
        assert isinstance(waiting, Suspended)
        assert isinstance(outcome, Completed)
        packed = waiting.log.to_msgpack()
        for name, taken in zip(times, (suspended - began, read - suspended, ended - read), strict=True):
            times[name].append(taken)
    return [
        *(Figure(f"approval: {name}", each=statistics.median(taken)) for name, taken in times.items()),
        Figure("approval: its log, suspended", note=f"{len(text)} bytes of JSON, {len(packed)} of MessagePack"),
    ]


if __name__ == "__main__":
    main(__file__, "How long does an approval take in memory?", measure)
