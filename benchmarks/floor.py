"""How fast can a pump of effects be? The floor: an async generator, a table, nothing else; and how far it wanders.

All other scripts measure against `floor`, with the library's own State effects and the functions of its own handler.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from harness import Case, Figure, Sizes, compare, main

from skuld_async import Effect, Effectful, Return, State, computation

PAIRS = 100_000

counter = State("counter", int)
Get: type[Effect[int]] = type(counter.get())
Put: type[Effect[None]] = type(counter.put(0))


async def floor(agen: AsyncGenerator[Any, Any], table: Mapping[type, Callable[[Any], Any]]) -> None:
    """Serve what *agen* yields from *table*."""
    value = None
    while True:
        try:
            effect = await agen.asend(value)
        except StopAsyncIteration:
            return
        value = table[type(effect)](effect)


async def count_up(pairs: int) -> AsyncGenerator[Any, Any]:
    """What is measured: each pair reads the counter and writes it."""
    for _ in range(pairs):
        value = yield counter.get()
        yield counter.put(value + 1)


# The same body as computations. They stand here, because in a module that imports `counter` the compiler would take
# another instruction for `counter.get`, and the comparison would be one of bodies.


@computation
async def yielding(pairs: int) -> Effectful[int]:
    for _ in range(pairs):
        value = yield counter.get()
        yield counter.put(value + 1)
    yield Return(pairs)


@computation
async def awaiting(pairs: int) -> int:
    for _ in range(pairs):
        value = await counter.get()
        await counter.put(value + 1)
    return pairs


@computation
async def awaiting_in_generator(pairs: int) -> Effectful[int]:
    for _ in range(pairs):
        value = await counter.get()
        await counter.put(value + 1)
    yield Return(pairs)


def floor_of(pairs: int, times: int = 1) -> Case:
    """The floor as a case: *pairs* get/put pairs, *times* over."""

    async def serve() -> int:
        for _ in range(times):
            installed = counter.handler(0).install()
            await floor(count_up(pairs), dict(installed.routes))
            assert installed.cells[0].value == pairs
        return 2 * pairs * times

    return serve


async def measure(sizes: Sizes) -> list[Figure]:
    pairs = sizes.count(PAIRS)
    return await compare(floor_of(pairs), {"the floor against itself": floor_of(pairs)}, sizes.repetitions, {})


if __name__ == "__main__":
    main(__file__, "How far does the floor wander?", measure)
