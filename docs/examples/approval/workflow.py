"""The approval workflow: its words, its one question, what it needs from outside, and the steps between.

Nothing here knows of HTTP, files or processes; `adapters.py` and the two commands bring those along. The types live
in a module of their own, never in a script that is run: a log names them as `workflow:PurchaseApproved`, and a script
that is run is called `__main__` in one process and something else in the next.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, Protocol

from msgspec import Struct

from skuld_async import DomainError, Effectful, EventAccumulator, Port, Return, Yield, computation, operation


@dataclass(frozen=True)
class Purchase:
    """What an employee would like to buy; the amount is in euros."""

    id: str
    employee: str
    manager: str
    item: str
    amount: Decimal


class ValidPurchase(Struct, frozen=True):
    """A purchase that the company could pay for, with the department that would pay."""

    id: str
    employee: str
    manager: str
    item: str
    amount: Decimal
    department: str
    available: Decimal


class Receipt(Struct, frozen=True, tag=True):
    """The purchase was paid for."""

    purchase: str
    booking: str
    amount: Decimal
    department: str


class Refusal(Struct, frozen=True, tag=True):
    """The manager said no."""

    purchase: str


class PurchaseApproved(Struct, frozen=True, tag=True):
    """Event: the manager said yes, and the purchase was paid for."""

    purchase: str


class PurchaseRejected(Struct, frozen=True, tag=True):
    """Event: the manager said no."""

    purchase: str


class UnknownEmployee(DomainError):
    """Nobody with this login works here."""

    employee: str

    def __str__(self) -> str:
        return f"{self.employee} does not work here, so nothing can be bought in that name."


class UnknownManager(DomainError):
    """Nobody with this login may approve purchases."""

    manager: str

    def __str__(self) -> str:
        return f"{self.manager} is not a manager who may approve purchases."


class OverBudget(DomainError):
    """The department cannot pay for the purchase."""

    department: str
    amount: Decimal
    available: Decimal

    def __str__(self) -> str:
        return f"{self.department} has {self.available} EUR left, which does not pay for {self.amount} EUR."


class ApprovalNeeded(Yield[Literal["approved", "rejected"]], frozen=True):
    """The question to the manager."""

    purchase: ValidPurchase


class Validator(Port, Protocol):
    """Knows who works here and what may be spent."""

    @operation(raises=(UnknownEmployee, UnknownManager, OverBudget))
    async def validate(self, purchase: Purchase) -> ValidPurchase:
        """Check a purchase; reserve nothing."""
        ...


class Actions(Port, Protocol):
    """Spends the money."""

    @operation(raises=(UnknownEmployee, UnknownManager, OverBudget))
    async def execute(self, purchase: ValidPurchase) -> Receipt:
        """Pay for a purchase; days after it was validated, so all that was checked may have changed."""
        ...


events = EventAccumulator("approval.events", PurchaseApproved | PurchaseRejected)


@computation(name="approval")
async def approval(purchase: Purchase) -> Effectful[Receipt | Refusal]:
    """Validate, ask, and pay if the manager agrees."""
    valid = yield Validator.validate(purchase)
    decision = yield ApprovalNeeded(valid)
    if decision == "approved":
        receipt = yield Actions.execute(valid)
        yield events.emit(PurchaseApproved(valid.id))
        yield Return(receipt)
    else:
        yield events.emit(PurchaseRejected(valid.id))
        yield Return(Refusal(valid.id))
