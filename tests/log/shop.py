"""What the tests of the log work with: effects, ports, keys, and an outside that counts its calls."""

from collections.abc import Sequence
from typing import Literal, Protocol, TypeVar

from msgspec import Struct

from skuld_async import (
    Cancelled,
    Completed,
    DeploymentError,
    DomainError,
    Effect,
    EventAccumulator,
    Failed,
    Handler,
    Log,
    Outcome,
    Port,
    Reader,
    State,
    Suspended,
    Yield,
    current_call,
    operation,
)

T = TypeVar("T")


class Placed(Struct, frozen=True, tag=True):
    number: int


class Refused(Struct, frozen=True, tag=True):
    number: int
    why: str = "unknown"


class Declined(Exception):
    """An error that `Shop.pay` declares: the receiver has answered."""


class OutOfStock(DomainError):
    item: str
    left: int = 0


class LateOutOfStock(OutOfStock):
    days: int = 1


class Approval(Yield[Literal["yes", "no"]], frozen=True):
    number: int = 0


class Comment(Yield[str], frozen=True):
    about: str = ""


class Charge(Effect[str], frozen=True):
    """External, as users' effects are by default."""

    amount: int


class Notify(Effect[None], frozen=True):
    """External, too."""

    text: str = ""


class Shop(Port, Protocol):
    @operation
    async def charge(self, amount: int) -> str: ...

    @operation(raises=(Declined,))
    async def pay(self, amount: int) -> str: ...

    @operation
    async def reserve(self, item: str, count: int = 1) -> int: ...


total = State("total", int)
cart = State("cart", list[str])
limit = Reader("limit", int)
client = Reader("client", object, logged=False)
events = EventAccumulator("shop", Placed | Refused)


class World:
    """The outside: remembers each call with its key; raises the errors it was given, one a call, None for none."""

    def __init__(self, *errors: Exception | None) -> None:
        self.keys: list[str] = []
        self.calls: list[str] = []
        self.errors: list[Exception | None] = list(errors)

    def called(self, what: str) -> None:
        self.keys.append(current_call().key)
        self.calls.append(what)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error

    async def charge(self, amount: int) -> str:
        self.called(f"charge {amount}")
        return f"receipt {amount}"

    async def pay(self, amount: int) -> str:
        self.called(f"pay {amount}")
        return f"paid {amount}"

    async def reserve(self, item: str, count: int = 1) -> int:
        self.called(f"reserve {item}")
        return count

    def charged(self, effect: Charge) -> str:
        self.called(f"charge {effect.amount}")
        return f"receipt {effect.amount}"

    def notified(self, effect: Notify) -> None:
        self.called(f"notify {effect.text}")

    @property
    def handlers(self) -> Sequence[Handler]:
        return [Shop.handler(self), Charge.handled_by(self.charged), Notify.handled_by(self.notified)]


def stored(log: Log) -> Log:
    """*log* as another process reads it."""
    return Log.from_msgpack(Log.from_json(log.to_json()).to_msgpack())


def completed(outcome: Outcome[T]) -> Completed[T]:
    assert isinstance(outcome, Completed), outcome
    return outcome


def suspended(outcome: Outcome[object]) -> Suspended:
    assert isinstance(outcome, Suspended), outcome
    return outcome


def failed(outcome: Outcome[object]) -> Failed:
    assert isinstance(outcome, Failed), outcome
    return outcome


def cancelled(outcome: Outcome[object]) -> Cancelled:
    assert isinstance(outcome, Cancelled), outcome
    return outcome


def left(error: DeploymentError) -> Log:
    """The log that *error* carries."""
    return error.log


def ids(log: Log) -> list[str]:
    return [entry.id for entry in log.entries]


def names(log: Log) -> list[str]:
    """What the entries are of, without modules."""
    return [entry.sig.rpartition(":")[2] for entry in log.entries]


def states(log: Log) -> list[str]:
    return [entry.state for entry in log.entries]
