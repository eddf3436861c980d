"""What does a logged local effect cost, and is it the same for the millionth as for the first?

Its data and its value are encoded, and its entry is kept. A log of few entries is written many times, with all that a
session costs.
"""

from __future__ import annotations

from floor import counter, floor_of, yielding
from harness import Case, Figure, Sizes, compare, main

from skuld_async import Completed, start

COUNTS = (1_000, 10_000, 100_000, 1_000_000)
AT_LEAST = 100_000
"""Effects in one measurement."""
TARGET = 4


def logging(pairs: int, times: int) -> Case:
    async def serve() -> int:
        for _ in range(times):
            outcome = await start(yielding(pairs), counter.handler(0))
            assert isinstance(outcome, Completed)
            assert len(outcome.log.entries) == 2 * pairs
        return 2 * pairs * times

    return serve


async def measure(sizes: Sizes) -> list[Figure]:
    figures: list[Figure] = []
    for count in COUNTS:
        pairs = sizes.count(count) // 2
        times = 1 if sizes.smoke else max(1, AT_LEAST // count)
        repetitions = min(7, sizes.repetitions) if count > AT_LEAST else sizes.repetitions
        name = f"logged local effect, one of {count:,}"
        figures += await compare(floor_of(pairs, times), {name: logging(pairs, times)}, repetitions, {name: TARGET})
    return figures


if __name__ == "__main__":
    main(__file__, "What does a logged local effect cost?", measure)
