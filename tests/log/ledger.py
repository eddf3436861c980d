"""A real database for the tests of transactions: SQLite, with savepoints, and a port that works on it."""

import sqlite3
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar, Protocol

import anyio
import pytest

from skuld_async import (
    Effectful,
    EventAccumulator,
    Handler,
    Port,
    Return,
    RolledBackError,
    State,
    Transaction,
    Writer,
    computation,
    current_call,
    operation,
    rollback,
    transact,
)

count = State("ledger.count", int)
booked = EventAccumulator("ledger.booked", str)
notes = Writer("ledger.notes", str)


class Ledger(Port, Protocol):
    @operation
    async def book(self, account: str, amount: int) -> int: ...

    @operation
    async def mail(self, text: str) -> None:
        """Is no part of the database."""


class Database:
    """What is at the other end: a connection, and how its transactions went."""

    opened: ClassVar[list[sqlite3.Connection]] = []
    """To be closed at the end of the test."""

    def __init__(self, path: Path | str = ":memory:") -> None:
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.opened.append(self.connection)
        self.connection.execute("CREATE TABLE IF NOT EXISTS bookings (account TEXT, amount INTEGER, key TEXT UNIQUE)")
        self.story: list[str] = []
        self.keys: list[str] = []
        self.mails: list[str] = []
        self.depth = 0
        self.fails: dict[str, Exception] = {}
        """What fails, and how: ``begin``, ``commit``, ``rollback``."""
        self.committing = anyio.Event()
        self.slow = False
        """Whether a commit takes a while."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        name = f"level{self.depth}"
        self.step("begin", f"SAVEPOINT {name}")
        self.depth += 1
        try:
            yield
        except BaseException:
            self.depth -= 1
            self.connection.execute(f"ROLLBACK TO {name}")
            self.connection.execute(f"RELEASE {name}")
            await anyio.lowlevel.checkpoint()
            self.step("rollback")
            raise
        self.depth -= 1
        if self.slow:
            self.committing.set()
            await anyio.sleep(0.02)
        if "commit" in self.fails:
            self.connection.execute(f"ROLLBACK TO {name}")
        self.step("commit", f"RELEASE {name}")

    def step(self, what: str, sql: str | None = None) -> None:
        if what in self.fails:
            raise self.fails[what]
        if sql is not None:
            self.connection.execute(sql)
        self.story.append(what)

    async def book(self, account: str, amount: int) -> int:
        self.keys.append(current_call().key)
        if amount < 0:
            message = f"{account} has no {-amount}"
            raise ValueError(message)
        self.connection.execute(
            "INSERT OR IGNORE INTO bookings VALUES (?, ?, ?)", (account, amount, current_call().key)
        )
        await anyio.lowlevel.checkpoint()
        return amount

    async def mail(self, text: str) -> None:
        self.mails.append(text)

    @property
    def rows(self) -> list[tuple[str, int]]:
        return list(self.connection.execute("SELECT account, amount FROM bookings ORDER BY rowid"))

    @property
    def handlers(self) -> Sequence[Handler]:
        return [
            Ledger.handler(self),
            Transaction.handler(self.transaction),
            count.handler(0),
            booked.handler(),
            notes.handler(),
        ]


@computation
async def transfer(amount: int, reason: str = "") -> Effectful[int]:
    """Books on two accounts and counts; a *reason* rolls it back, a negative amount fails on the second account."""
    yield count.modify(lambda number: number + 1)
    yield booked.emit(f"transfer {amount}")
    yield notes.tell(f"from a, {amount}")
    out = yield Ledger.book("a", abs(amount))
    if reason:
        yield rollback(reason)
    back = yield Ledger.book("b", amount)
    yield Return(out + back)


@computation
async def order() -> Effectful[str]:
    """A mail, a transaction, a mail."""
    yield Ledger.mail("before")
    total = yield transact(transfer(5))
    yield Ledger.mail("after")
    yield Return(f"booked {total}")


@computation
async def several(amounts: list[int]) -> Effectful[list[str]]:
    """A transaction for each amount: 7 is rolled back, a negative one fails."""
    seen: list[str] = []
    for amount in amounts:
        try:
            seen.append(str((yield transact(transfer(amount, "seven" if amount == 7 else "")))))
        except (RolledBackError, ValueError) as error:
            seen.append(repr(error))
        seen.append(f"{(yield count.get())} {(yield notes.peek())}")
    yield Return(seen)


AMOUNTS = [5, 7, -3, 2]
TOLD = [
    "10",
    "1 ['from a, 5']",
    "RolledBackError('seven')",
    "1 ['from a, 5']",
    "ValueError('b has no 3')",
    "1 ['from a, 5']",
    "4",
    "2 ['from a, 5', 'from a, 2']",
]
ROWS = [("a", 5), ("b", 5), ("a", 2), ("b", 2)]


@computation
async def nested(inner: str, outer: str) -> Effectful[list[str]]:
    """A transaction in a transaction; each is rolled back where it has a reason."""
    seen: list[str] = []
    yield count.put(1)
    yield Ledger.book("outer", 1)
    try:
        yield transact(transfer(2, inner))
    except RolledBackError as error:
        seen.append(error.reason)
    seen.append(f"{(yield count.get())}")
    if outer:
        yield rollback(outer)
    yield Return(seen)


@computation
async def around(inner: str, outer: str) -> Effectful[list[str]]:
    try:
        seen = yield transact(nested(inner, outer))
    except RolledBackError as error:
        seen = [error.reason]
    yield Return([*seen, f"{(yield count.get())}"])


SAVEPOINTS = pytest.mark.parametrize(
    ("inner", "outer", "told", "rows"),
    [
        ("", "", ["2", "2"], [("outer", 1), ("a", 2), ("b", 2)]),
        ("no", "", ["no", "1", "1"], [("outer", 1)]),
        ("", "never", ["never", "0"], []),
        ("no", "never", ["never", "0"], []),
    ],
    ids=["both", "outer", "inner", "none"],
)
"""Which of the two transactions of `around` are rolled back, what it tells, and what is booked."""
