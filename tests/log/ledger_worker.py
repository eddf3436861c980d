"""A process of its own for `test_transactions`: goes on with `order`, and writes its log whenever something is settled.

Usage: python ledger_worker.py FOLDER BACKEND WHERE; it hangs where it is told to: "inside" or "committed".
"""

import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from skuld_async import Completed, Log, current_call, resume, start

sys.path.append(str(Path(__file__).parents[2]))  # at the end: the installed package is tested
from tests.log.ledger import Database, order

FOLDER = Path(sys.argv[1])
STORED = FOLDER / "log.json"


class Slow(Database):
    """A database in a file; it hangs where it is told to, as a process does that is not scheduled."""

    def hang(self, where: str) -> None:
        if sys.argv[3] == where:
            save()
            print("hangs", flush=True)
            time.sleep(60)

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        async with super().transaction():
            yield
        self.hang("committed")

    async def book(self, account: str, amount: int) -> int:
        arrive(current_call().key)
        booked = await super().book(account, amount)
        if account == "b":
            self.hang("inside")
        return booked

    async def mail(self, text: str) -> None:
        arrive(text)


def arrive(what: str) -> None:
    with (FOLDER / "arrived.txt").open("a", encoding="utf-8") as file:
        file.write(f"{what}\n")


log = Log()


def save(_: object = None) -> None:
    part = FOLDER / "log.part"
    part.write_bytes(log.to_json())
    part.replace(STORED)


async def main() -> None:
    database = Slow(FOLDER / "ledger.db")
    if STORED.exists():
        stored = Log.from_json(STORED.read_bytes())
        outcome = await resume(order(), stored, *database.handlers, into=log, observe=[save])
    else:
        outcome = await start(order(), *database.handlers, id="run", into=log, observe=[save])
    assert isinstance(outcome, Completed)
    print("Completed", outcome.value)
    database.connection.close()


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[2])
