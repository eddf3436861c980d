"""What do an effect and a sub-computation cost where nothing is logged?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from floor import PAIRS, Get, Put, awaiting, awaiting_in_generator, counter, floor_of, yielding
from harness import Case, Figure, Sizes, compare, main

from skuld_async import Computation, Effect, Effectful, Handler, Return, computation, run

TARGETS = {
    "effect, sync handler": 1.5,
    "effect, async handler": 2,
    "`await effect`": 2.5,
    "sub-computation, returns at once, async generator": 6,
    "sub-computation, returns at once, coroutine": 6,
}


@computation
async def generator(value: int) -> Effectful[int]:
    yield Return(value)


@computation
async def coroutine(value: int) -> int:
    return value


@computation
async def calling(callee: Callable[[int], Computation[int]], times: int) -> Effectful[int]:
    for number in range(times):
        yield callee(number)
    yield Return(times)


@computation
async def awaiting_calls(callee: Callable[[int], Computation[int]], times: int) -> Effectful[int]:
    for number in range(times):
        await callee(number)
    yield Return(times)


def async_handlers() -> Sequence[Handler]:
    """The handler of the counter, async."""
    cell = counter.handler(0).install().cells[0]

    async def get(_effect: Effect[int]) -> int:
        value: int = cell.value
        return value

    async def put(effect: Any) -> None:  # noqa: ANN401 - its class is made at run time
        cell.value = effect.value

    return [Get.handled_by(get), Put.handled_by(put)]


def running(comp: Computation[int], count: int, *handlers: Handler) -> Case:
    async def serve() -> int:
        await run(comp, *handlers)
        return count

    return serve


async def measure(sizes: Sizes) -> list[Figure]:
    pairs = sizes.count(PAIRS)
    state = counter.handler(0)
    cases = {
        "effect, sync handler": running(yielding(pairs), 2 * pairs, state),
        "effect, async handler": running(yielding(pairs), 2 * pairs, *async_handlers()),
        "`await effect`": running(awaiting(pairs), 2 * pairs, state),
        "`await effect` in an async generator": running(awaiting_in_generator(pairs), 2 * pairs, state),
        "sub-computation, returns at once, async generator": running(calling(generator, pairs), pairs),
        "sub-computation, returns at once, coroutine": running(calling(coroutine, pairs), pairs),
        "`await` of that async generator": running(awaiting_calls(generator, pairs), pairs),
        "`await` of that coroutine": running(awaiting_calls(coroutine, pairs), pairs),
    }
    return await compare(floor_of(pairs), cases, sizes.repetitions, TARGETS)


if __name__ == "__main__":
    main(__file__, "What does an effect cost where nothing is logged?", measure)
