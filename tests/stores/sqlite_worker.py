"""A process with a SQLite store: writes to it without end, sends one message when told, or keeps the file locked."""

import sqlite3
import sys

import anyio
from msgspec.structs import replace

from skuld_async.durable.records import Append, NewDeposit, NewRun
from skuld_async.stores.sqlite import SQLiteStore

NEXT = Append(run="", worker="w1", token=1, number=2, at=2.0)
RUNS = [f"run {number}" for number in range(20)]


async def write(path: str, synchronous: str) -> None:
    """Append to twenty runs at once, and tell which appends have returned."""
    async with SQLiteStore(path, synchronous="full" if synchronous == "full" else "normal") as store:

        async def keep_writing(run: str) -> None:
            number = (
                await store.create(NewRun(run, "order", None, b"", (), paused=False, chunk=b"1", at=1.0), "w1")
            ).appends
            while True:
                number += 1
                await store.append(replace(NEXT, run=run, number=number, chunk=b"%d" % number))
                tell(f"{run}:{number}")

        async with anyio.create_task_group() as group:
            for run in RUNS:
                group.start_soon(keep_writing, run)


async def send(path: str, _: str) -> None:
    """Send a message to each run that is named in a line of the input."""
    async with SQLiteStore(path) as store:
        tell("ready")
        async for line in anyio.wrap_file(sys.stdin):
            await store.deposit(NewDeposit(line.strip(), "", "approval", b"", "bot", 1.0))


async def lock(path: str, _: str) -> None:
    """Hold the lock of writers until the input ends."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    tell("locked")
    sys.stdin.read()
    connection.execute("ROLLBACK")
    connection.close()


def tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    task, file, how = sys.argv[1:]
    anyio.run({"write": write, "send": send, "lock": lock}[task], file, how)
