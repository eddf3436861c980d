"""The company behind the HTTP service: employees, budgets and bookings in one SQLite file.

Refusals are values, not exceptions: a request that is refused commits like any other, so the count of
requests stays true whatever the answer was.
"""

import sqlite3
from collections.abc import Generator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import ClassVar

import msgspec
from msgspec import Struct

SEED = Path(__file__).with_name("seed.sql")
CENT = Decimal("0.01")
LARGEST_AMOUNT = Decimal(10**9)


class Purchase(Struct, frozen=True):
    """What a caller sends: the service declares its own wire types and shares none with its callers."""

    id: str
    employee: str
    manager: str
    item: str
    amount: Decimal

    def __post_init__(self) -> None:
        """Refuse what is no sum of money; the decoder adds the place."""
        if not self.amount.is_finite() or not 0 < self.amount <= LARGEST_AMOUNT:
            problem = f"amount must be more than 0 and at most {LARGEST_AMOUNT}, not {self.amount}"
            raise ValueError(problem)
        if self.amount != self.amount.quantize(CENT):
            problem = f"amount must be in euros and whole cents, not {self.amount}"
            raise ValueError(problem)


class ValidPurchase(Struct, frozen=True):
    """The purchase with what the company knows about it."""

    id: str
    employee: str
    manager: str
    item: str
    amount: Decimal
    department: str
    available: Decimal


class Receipt(Struct, frozen=True):
    """Proof that the money was spent; the same one for every request under the same key."""

    purchase: str
    booking: str
    amount: Decimal
    department: str


class Counters(Struct, frozen=True):
    """How many requests of each kind were served since the company was founded, and how many bookings exist."""

    validate: int
    execute: int
    bookings: int


class Problem(Struct, frozen=True, tag_field="error"):
    """A refusal that a program can read: the tag says which, the fields say why."""

    status: ClassVar[int]


class UnknownEmployee(Problem, frozen=True, tag="unknown_employee"):
    """Nobody with this login works here."""

    status = 422
    employee: str


class UnknownManager(Problem, frozen=True, tag="unknown_manager"):
    """Nobody with this login may approve purchases."""

    status = 422
    manager: str


class OverBudget(Problem, frozen=True, tag="over_budget"):
    """The department cannot pay for it."""

    status = 422
    department: str
    amount: Decimal
    available: Decimal


class KeyReused(Problem, frozen=True, tag="idempotency_key_reused"):
    """The key came with another purchase before: the caller made a mistake, and no money moves."""

    status = 409
    key: str


class Company:
    """Answers the service's three questions, each in one transaction of its own.

    Safe to use from several threads: every call opens and closes a connection.
    """

    def __init__(self, database: Path) -> None:
        """Open the company in this file; a file that does not exist yet is seeded."""
        self._database = database
        if not database.exists():
            with closing(sqlite3.connect(database)) as connection:
                connection.executescript(f"begin; {SEED.read_text(encoding='utf-8')} commit;")

    def validate(self, purchase: Purchase) -> ValidPurchase | Problem:
        """Check employee, manager and budget; reserve nothing."""
        with self._transaction() as db:
            db.execute("insert into request (kind) values ('validate')")
            return _check(db, purchase)

    def execute(self, purchase: Purchase, key: str) -> Receipt | Problem:
        """Spend the money once for each key, however often it arrives."""
        request = msgspec.json.encode(purchase)
        with self._transaction() as db:
            db.execute("insert into request (kind) values ('execute')")
            earlier = db.execute("select request, receipt from booking where idempotency_key = ?", (key,)).fetchone()
            if earlier is not None:
                same = earlier["request"] == request
                return msgspec.json.decode(earlier["receipt"], type=Receipt) if same else KeyReused(key)
            checked = _check(db, purchase)
            return _book(db, checked, key, request) if isinstance(checked, ValidPurchase) else checked

    def counters(self) -> Counters:
        """Count what was served; asking is not counted."""
        with self._transaction() as db:
            row = db.execute(
                "select (select count(*) from request where kind = 'validate') as validate,"
                " (select count(*) from request where kind = 'execute') as execute,"
                " (select count(*) from booking) as bookings"
            ).fetchone()
            return Counters(row["validate"], row["execute"], row["bookings"])

    @contextmanager
    def _transaction(self) -> Generator[sqlite3.Connection, None, None]:
        with closing(sqlite3.connect(self._database, timeout=5, isolation_level=None)) as db:
            db.row_factory = sqlite3.Row
            # The write lock comes first: two requests under one key must not both find no booking.
            db.execute("begin immediate")
            try:
                yield db
            except BaseException:
                db.execute("rollback")
                raise
            db.execute("commit")


def _check(db: sqlite3.Connection, purchase: Purchase) -> ValidPurchase | Problem:
    employee = db.execute(
        "select department, budget_cents from employee join department on department = department.name where login = ?",
        (purchase.employee,),
    ).fetchone()
    if employee is None:
        return UnknownEmployee(purchase.employee)
    manager = db.execute("select 1 from employee where login = ? and may_approve", (purchase.manager,)).fetchone()
    if manager is None:
        return UnknownManager(purchase.manager)
    available = Decimal(employee["budget_cents"]).scaleb(-2)
    if purchase.amount > available:
        return OverBudget(employee["department"], purchase.amount, available)
    return ValidPurchase(
        id=purchase.id,
        employee=purchase.employee,
        manager=purchase.manager,
        item=purchase.item,
        amount=purchase.amount,
        department=employee["department"],
        available=available,
    )


def _book(db: sqlite3.Connection, purchase: ValidPurchase, key: str, request: bytes) -> Receipt:
    db.execute(
        "update department set budget_cents = budget_cents - ? where name = ?",
        (int(purchase.amount.scaleb(2)), purchase.department),
    )
    (count,) = db.execute("select count(*) from booking").fetchone()
    receipt = Receipt(purchase.id, f"B-{count + 1:04}", purchase.amount, purchase.department)
    db.execute(
        "insert into booking (idempotency_key, request, receipt) values (?, ?, ?)",
        (key, request, msgspec.json.encode(receipt)),
    )
    return receipt
