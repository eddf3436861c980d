"""What does a replay cost for each entry, with the reading of the log?"""

from __future__ import annotations

from collections.abc import Callable

from floor import PAIRS, counter, floor_of, yielding
from harness import Case, Figure, Sizes, compare, main

from skuld_async import Completed, Computation, Effectful, Handler, Log, Return, computation, port, replay, start

TARGET = 4


@port
async def double(number: int) -> int:
    return 2 * number


@computation
async def doubling(times: int) -> Effectful[int]:
    for number in range(times):
        yield double(number)
    yield Return(times)


async def log_of(comp: Computation[int], handler: Handler) -> Log:
    outcome = await start(comp, handler)
    assert isinstance(outcome, Completed)
    return outcome.log


def replaying(comp: Computation[int], handler: Handler, read: Callable[[], Log]) -> Case:
    async def serve() -> int:
        log = read()
        outcome = await replay(comp, log, handler)
        assert isinstance(outcome, Completed)
        return len(log.entries)

    return serve


async def measure(sizes: Sizes) -> list[Figure]:
    pairs = sizes.count(PAIRS) // 2
    local, state = yielding(pairs), counter.handler(0)
    external, answers = doubling(2 * pairs), double.default()
    local_log = await log_of(local, state)
    external_log = await log_of(external, answers)
    local_json, local_msgpack = local_log.to_json(), local_log.to_msgpack()
    external_json, external_msgpack = external_log.to_json(), external_log.to_msgpack()
    cases = {
        "replay, local effects, JSON": replaying(local, state, lambda: Log.from_json(local_json)),
        "replay, local effects, MessagePack": replaying(local, state, lambda: Log.from_msgpack(local_msgpack)),
        "replay, port calls, JSON": replaying(external, answers, lambda: Log.from_json(external_json)),
        "replay, port calls, MessagePack": replaying(external, answers, lambda: Log.from_msgpack(external_msgpack)),
    }
    figures = await compare(floor_of(pairs), cases, sizes.repetitions, dict.fromkeys(cases, TARGET))
    read_before = {
        "local effects, log read before": replaying(local, state, lambda: local_log),
        "port calls, log read before": replaying(external, answers, lambda: external_log),
    }
    return figures + await compare(floor_of(pairs), read_before, sizes.repetitions, {})


if __name__ == "__main__":
    main(__file__, "What does a replay cost for each entry?", measure)
