"""What do runs cost that only wait: in memory, and for whoever looks for the one that is due?

The memory is told by `tracemalloc`, each in a fresh process: after that many runs have asked their question and were
put away; beside it what a run takes that stays in memory, and what a runtime takes whose store holds many more. These,
and the sleeping ones, are written by the store itself. What is timed is a look for the next time, and the claim of the
run that is due.
"""

from __future__ import annotations

import gc
import statistics
import subprocess
import sys
import time
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from harness import Figure, Sizes, figure, main
from runtime_parts import HANDLERS, all_of, folder, held

from skuld_async import Effectful, Yield, computation
from skuld_async.durable import Runtime, Store
from skuld_async.durable.records import Append, NewRun
from skuld_async.stores.sqlite import SQLiteStore

PARKED = 10_000
STORED = 100_000
HELD = 1000
AT_ONCE = 200
"""Runs that are on their way at one time."""
NONE = 0.01
"""The share of a held run's memory that a parked one may take."""
SLEEPING = 50_000
FEW = 100
CLAIMS = 50
BY_INDEX = 2


class Asked(Yield[bool], frozen=True):
    """What nobody answers."""


@computation
async def asking() -> Effectful[None]:
    yield Asked()


def traced() -> int:
    """Bytes that are in use."""
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


async def weigh(runs: int, idle: float) -> float:
    """Bytes of memory that a run takes which waits."""
    with folder() as path:
        store = SQLiteStore(path / "runs.db", synchronous="normal")
        async with Runtime(store, [asking], HANDLERS, idle=idle, concurrency=2 * HELD) as runtime:

            async def one(_: int) -> None:
                await (await runtime.start(asking())).settled()

            async def rounds(count: int) -> int:
                for _ in range(count // AT_ONCE):
                    await all_of(AT_ONCE, one)
                while idle == 0 and held(runtime):  # noqa: ASYNC110 - they are on their way out
                    await anyio.sleep(0.01)
                return traced()

            await all_of(AT_ONCE, one)  # what is made once for all
            tracemalloc.start()
            before = await rounds(AT_ONCE)
            return (await rounds(runs) - before) / runs


async def weigh_stored(runs: int) -> float:
    """Bytes of memory that a runtime takes for each run in its store."""
    with folder() as path:
        async with SQLiteStore(path / "runs.db", synchronous="normal") as store:
            await suspended(store, runs, 2e10)
        tracemalloc.start()
        before = traced()
        async with Runtime(SQLiteStore(path / "runs.db"), [asking], HANDLERS) as runtime:
            await (await runtime.start(asking())).settled()
            return (traced() - before) / runs


def weight(case: str, *arguments: float) -> float:
    """What *case* gives in a fresh process."""
    program = f"import anyio, runtime_parked; print(anyio.run(runtime_parked.{case}, *{arguments}))"
    command = [sys.executable, "-c", program]
    told = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return float(told.stdout)


async def suspended(store: Store, runs: int, first_due: float) -> None:
    """Put so many runs into *store* that sleep, one second longer each."""
    more: Any = {"worker": "worker", "token": 1, "number": 2, "at": 1.0, "status": "suspended", "release": True}

    async def one(first: int, place: int) -> None:
        number = first + place
        name = f"run-{number}"
        await store.create(NewRun(name, asking.name, None, b"[]", (), paused=False, chunk=b"[]", at=1.0), "worker")
        await store.append(Append(run=name, wake=first_due + number, **more))

    for first in range(0, runs, AT_ONCE):
        await all_of(min(AT_ONCE, runs - first), partial(one, first))


async def looking(path: Path, runs: int) -> tuple[float, float]:
    """Seconds for a look at the next time, and for a claim, among so many runs that sleep."""
    looks: list[float] = []
    claims: list[float] = []
    async with SQLiteStore(path, synchronous="normal") as store:
        await suspended(store, runs, 1000)
        for number in range(CLAIMS):
            started = time.perf_counter()
            assert await store.next_wake([asking.name]) == 1000.0 + number
            looked = time.perf_counter()
            taken = await store.claim("other", now=1000.0 + number, limit=100, workflows=[asking.name])
            claims.append(time.perf_counter() - looked)
            looks.append(looked - started)
            assert [one.id for one in taken] == [f"run-{number}"]
    return statistics.median(looks), statistics.median(claims)


async def measure(sizes: Sizes) -> list[Figure]:
    runs = AT_ONCE if sizes.smoke else PARKED
    parked, held = weight("weigh", runs, 0), weight("weigh", AT_ONCE if sizes.smoke else HELD, 60)
    stored = weight("weigh_stored", sizes.count(STORED))
    with folder() as path:
        few, many = await looking(path / "few.db", FEW), await looking(path / "many.db", sizes.count(SLEEPING))
    return [
        figure("memory of a run that was put away, and of one that is held", [max(parked, 0.1) / held], NONE),
        Figure(f"a run that was put away, of {PARKED:,}", note=f"{parked:,.1f} bytes of memory"),
        Figure("a run that waits in memory", note=f"{held:,.0f} bytes"),
        Figure(f"a run in the store, of {STORED:,}", note=f"{stored:,.1f} bytes of memory"),
        figure(f"claim of a due run, of {SLEEPING:,} and of {FEW}", [many[1] / few[1]], BY_INDEX, 1e9 * many[1]),
        figure(f"look for the next time, of {SLEEPING:,} and of {FEW}", [many[0] / few[0]], BY_INDEX, 1e9 * many[0]),
    ]


if __name__ == "__main__":
    main(__file__, "What do runs cost that only wait?", measure)
