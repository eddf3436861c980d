"""What does one effect of each family cost under a log, on the first run and on a replay?

The base is a `State.put` of an int, logged or replayed; each case requests as many of its own, with handlers that do
next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

from harness import Case, Figure, Sizes, compare, main

from skuld_async import (
    Clock,
    Command,
    Completed,
    Computation,
    Effect,
    Effectful,
    EventAccumulator,
    Fresh,
    Log,
    Random,
    Reader,
    Return,
    State,
    Throw,
    Transaction,
    Writer,
    bracket,
    computation,
    mark_loop,
    port,
    replay,
    start,
    transact,
)

COUNT = 5_000


class Double(Command[int], frozen=True):
    number: int


@port
async def double(number: int) -> int:
    return 2 * number


@port
async def double_async(number: int) -> int:
    return 2 * number


def double_at_once(number: int) -> int:
    return 2 * number


total = State("total", int)
rate = Reader("rate", int)
notes = Writer("notes", int)
events = EventAccumulator("events", int)
HANDLERS = [
    total.handler(0),
    rate.handler(1),
    notes.handler(),
    events.handler(),
    double.handled_by(double_at_once),
    double_async.default(),
    Double.handled_by(lambda command: 2 * command.number),
    Transaction.in_memory(),
]


@computation
async def requesting(what: str, times: int) -> Effectful[int]:
    make = MAKES[what]
    for number in range(times):
        yield make(number)
    yield Return(times)


@computation
async def throwing(times: int) -> Effectful[int]:
    for _ in range(times):
        with suppress(ValueError):
            yield Throw(ValueError("no"))
    yield Return(times)


@computation
async def looping(times: int) -> Effectful[int]:
    done = 0
    while done < times:
        done = yield mark_loop("loop", int, carry=done)
        done += 1
    yield Return(times)


@computation
async def put(number: int) -> Effectful[None]:
    yield total.put(number)


def kept(number: int) -> Computation[None]:
    return bracket(total.put(number), lambda _: put(number), lambda _: total.put(0))


MAKES: dict[str, Callable[[int], Effect[Any] | Computation[Any]]] = {
    "State.put": total.put,
    "Reader.ask": lambda _: rate.ask(),
    "Writer.tell": notes.tell,
    "EventAccumulator.emit": events.emit,
    "Clock.now": lambda _: Clock.now(),
    "Fresh.uuid": lambda _: Fresh.uuid(),
    "Random.int": lambda number: Random.int(0, number),
    "port, sync": double,
    "port, async": double_async,
    "Command": lambda number: Double(number).execute(),
    "bracket around three puts": kept,
    "transact around one put": lambda number: transact(put(number)),
}


def performed(comp: Computation[int], times: int) -> Case:
    async def serve() -> int:
        outcome = await start(comp, *HANDLERS, prune_loops=False)
        assert isinstance(outcome, Completed)
        return times

    return serve


async def replayed(comp: Computation[int], times: int) -> Case:
    outcome = await start(comp, *HANDLERS, prune_loops=False)
    stored = outcome.log.to_json()

    async def serve() -> int:
        outcome = await replay(comp, log, *HANDLERS, prune_loops=False)
        assert isinstance(outcome, Completed)
        return times

    log = Log.from_json(stored)
    return serve


async def measure(sizes: Sizes) -> list[Figure]:
    times = sizes.count(COUNT)
    comps = {name: requesting(name, times) for name in MAKES if name != "State.put"}
    comps |= {"Throw, caught": throwing(times), "mark_loop, an iteration": looping(times)}
    base = requesting("State.put", times)
    logged = {f"{name}, logged": performed(comp, times) for name, comp in comps.items()}
    again = {f"{name}, replayed": await replayed(comp, times) for name, comp in comps.items()}
    figures = await compare(performed(base, times), logged, sizes.repetitions, {})
    figures += await compare(await replayed(base, times), again, sizes.repetitions, {})
    return figures


if __name__ == "__main__":
    main(__file__, "What does one effect of each family cost under a log?", measure)
