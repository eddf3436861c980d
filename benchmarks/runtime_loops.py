"""Does a turn of a conversation cost more, the longer the conversation lasts?

A turn is a question, its answer, and the call of a port. The loop is marked, and carries the last messages of a bounded
window, or all there ever were. Between two turns the run is put away, so that each is a cold resume. What is told is
the time from the answer to the next question, and the bytes of the log that are stored then; beside it the bytes that
all the tables hold more with each turn, for who answered what and when is kept.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from harness import Figure, Sizes, figure, main
from runtime_parts import HANDLERS, Doubling, folder, put_away

from skuld_async import Effectful, Yield, computation, mark_loop
from skuld_async.durable import Runtime
from skuld_async.stores.sqlite import SQLiteStore

TURNS = 1000
WINDOW = 10
AROUND = 20
"""Turns of which the median is taken: every few turns what is out of date is thrown away."""
EARLY = 10
TARGET = 1.2
TEXT = "x" * 80


class UserTurn(Yield[str], frozen=True):
    """What the user says next."""


class Turn(NamedTuple):
    seconds: float
    log: int
    """Bytes."""
    written: int
    """Bytes of all that the database holds of runs."""


@computation
async def conversation(window: int | None) -> Effectful[None]:
    messages: list[str] = []
    while True:
        messages = yield mark_loop("conversation", list[str], carry=messages)
        text = yield UserTurn()
        number = yield Doubling.double(len(text))
        messages = [*messages, text, f"{number}{TEXT}"]
        if window is not None:
            messages = messages[-window:]


async def turns(path: Path, count: int, window: int | None) -> list[Turn]:
    """So many turns of a conversation."""
    found: list[Turn] = []
    store = SQLiteStore(path, synchronous="normal")
    async with Runtime(store, [conversation], HANDLERS, idle=0) as runtime:
        with closing(sqlite3.connect(path)) as reader:
            run = await runtime.start(conversation(window))
            asked = (await run.settled()).waits
            for _ in range(count):
                await put_away(runtime, run.id)
                started = time.perf_counter()
                await runtime.answer(asked[0], TEXT)
                asked = (await run.settled()).waits
                found.append(Turn(time.perf_counter() - started, *stored(reader)))
    return found


def stored(reader: sqlite3.Connection) -> tuple[int, int]:
    """Bytes of the log, and of all that is kept of the run."""
    query = """
        SELECT (SELECT sum(length(data)) FROM chunks),
            (SELECT sum(length(data)) FROM chunks) + (SELECT sum(length(data)) FROM events)
            + (SELECT sum(length(body) + length(wait)) FROM messages)
            + (SELECT sum(length(run) + length(id) + length(question) + length(schema) + length(answer)) FROM waits)
    """
    log, everything = reader.execute(query).fetchone()
    return log, everything or 0


def around(found: Sequence[Turn], turn: int) -> tuple[float, float]:
    """Seconds and bytes of the log, around that turn."""
    first = max(0, min(turn - AROUND // 2, len(found) - AROUND))
    near = found[first : first + AROUND]
    return statistics.median(one.seconds for one in near), statistics.mean(one.log for one in near)


async def measure(sizes: Sizes) -> list[Figure]:
    count = sizes.count(TURNS)
    with folder() as path:
        bounded = await turns(path / "bounded.db", count, WINDOW)
        full = await turns(path / "full.db", count, None)
    early, late = around(bounded, EARLY + AROUND // 2), around(bounded, count)
    kept = (bounded[-1].written - bounded[count // 2].written) / (count - 1 - count // 2)
    half, whole = around(full, count // 2), around(full, count)
    each = (whole[0] - half[0]) / (count - count // 2), (whole[1] - half[1]) / (count - count // 2)
    return [
        figure(f"turn {TURNS:,} and turn {EARLY}, bounded window, time", [late[0] / early[0]], TARGET, 1e9 * late[0]),
        figure(f"turn {TURNS:,} and turn {EARLY}, bounded window, bytes of the log", [late[1] / early[1]], TARGET),
        Figure("the log of a conversation with a bounded window", note=f"{late[1]:,.0f} bytes"),
        Figure("kept of each turn: question, answer, by whom", note=f"{kept:,.0f} bytes"),
        figure(f"full history: turn {TURNS:,} and turn {TURNS // 2}, time", [whole[0] / half[0]]),
        Figure("full history: what each turn adds to the next", note=f"{1e6 * each[0]:.2f} µs, {each[1]:,.0f} bytes"),
        Figure(f"full history: turn {TURNS:,}", note=f"{1e3 * whole[0]:.1f} ms, {whole[1]:,.0f} bytes"),
    ]


if __name__ == "__main__":
    main(__file__, "Does a turn cost more, the longer a conversation lasts?", measure)
