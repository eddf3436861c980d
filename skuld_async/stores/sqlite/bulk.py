"""The appends of many runs in two statements: what one row costs is mostly the way into SQLite and back.

Each way back has to wait for the interpreter's lock, too, while the event loop is busy.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from skuld_async.durable.records import Append

    from .writer import Desk

SIZES = (64, 32, 16, 8, 4, 2, 1)
"""Rows in a statement: few sizes, so that each is compiled once."""


class SomeRefused(Exception):
    """Not all appends found their lease; the transaction is to be rolled back, and each to be asked alone."""


ADVANCE = """
    UPDATE runs SET appends = appends + 1, recoveries = 0, last_worker = owner, last_token = token
    WHERE key = ? AND id = ? AND owner = ? AND token = ? AND appends = ? - 1
"""


@cache
def _statements(size: int) -> tuple[str, str]:
    chunks = ", ".join(["(?, ?, ?)"] * size)
    add = f"INSERT INTO chunks (run, number, data) VALUES {chunks}"  # noqa: S608 - question marks
    if size == 1:
        return ADVANCE, add
    leases = ", ".join(["(?, ?, ?, ?, ?)"] * size)
    advance = (
        "UPDATE runs SET appends = item.column5, recoveries = 0, last_worker = owner, last_token = token "  # noqa: S608
        f"FROM (VALUES {leases}) AS item WHERE key = item.column1 AND id = item.column2 AND owner = item.column3 "
        "AND token = item.column4 AND appends = item.column5 - 1"
    )
    return advance, add


def is_plain(item: Append) -> bool:
    """Whether an append does no more than to add a chunk."""
    return (
        item.chunk is not None
        and item.status is None
        and item.progress
        and not (item.release or item.replace or item.opens or item.closes or item.folded or item.events or item.trim)
    )


def append_plain(desk: Desk, items: Sequence[tuple[int, Append]]) -> None:
    """Add the chunks of these runs, each with its key.

    Raises:
        SomeRefused: A lease is lost, or an append is repeated.
    """
    done = 0
    for size in SIZES:
        while len(items) - done >= size:
            leases: list[Any] = []
            chunks: list[Any] = []
            for key, item in items[done : done + size]:
                number = item.number
                leases += (key, item.run, item.worker, item.token, number)
                chunks += (key, number, item.chunk)
            advance, add = _statements(size)
            if desk.execute(advance, leases).rowcount != size:
                raise SomeRefused
            desk.execute(add, chunks)
            done += size
