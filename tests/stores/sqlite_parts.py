"""What tests of a SQLite store need: its writer, which can be held up, and what it executes."""

import threading
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from typing import Any

import anyio
import anyio.lowlevel

from skuld_async.durable.records import Append
from skuld_async.stores.sqlite import SQLiteStore
from skuld_async.stores.sqlite.writer import Desk, Writer


def writer_of(store: SQLiteStore) -> Writer:
    assert store._threads is not None
    return store._threads[0]


@contextmanager
def held(store: SQLiteStore) -> Generator[None]:
    """Lets operations pile up: the writer takes them as one batch afterwards."""
    begun, goes_on = threading.Event(), threading.Event()

    def wait(_desk: Desk, _item: None) -> None:
        begun.set()
        goes_on.wait()

    writer_of(store).do(wait, None)
    begun.wait()
    try:
        yield
    finally:
        goes_on.set()


async def together(store: SQLiteStore, *calls: Callable[[], Awaitable[object]]) -> list[Any]:
    """Make all *calls* in one batch; gives what each returned or raised."""
    outcomes: list[Any] = [None] * len(calls)

    async def make(place: int) -> None:
        try:
            outcomes[place] = await calls[place]()
        except Exception as error:  # noqa: BLE001 - is looked at by the test
            outcomes[place] = error

    async with anyio.create_task_group() as group:
        with held(store):
            for place in range(len(calls)):
                group.start_soon(make, place)
            while writer_of(store)._queue.qsize() < len(calls):
                await anyio.lowlevel.checkpoint()
    return outcomes


async def traced(store: SQLiteStore) -> list[str]:
    """The statements that its writer executes from now on, each without what follows its first three words."""
    statements: list[str] = []

    def trace(desk: Desk, _item: None) -> None:
        desk.connection.set_trace_callback(lambda text: statements.append(" ".join(text.split()[:3])))

    await writer_of(store).do(trace, None)
    statements.clear()
    return statements


def appends(store: SQLiteStore, *items: Append) -> list[Callable[[], Awaitable[None]]]:
    return [partial(store.append, item) for item in items]
