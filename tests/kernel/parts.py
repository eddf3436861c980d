"""What the tests of the kernel share: effects, a bank that keeps what was performed, and a counter of await points."""

import types
from collections.abc import Coroutine, Generator
from typing import Any, Self, TypeVar

import anyio

from skuld_async import Effect, Handler

T = TypeVar("T")


class Double(Effect[int], frozen=True):
    n: int


class Charge(Effect[str], frozen=True):
    cents: int = 1


class Refund(Effect[str], frozen=True):
    cents: int = 1


class Slow(Effect[str], frozen=True):
    """Takes longer than any test."""


class Boom(Effect[str], frozen=True):
    error: Any


class Transaction:
    """An async context manager that says how it was left."""

    def __init__(self) -> None:
        self.left = "never"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: object, traceback: object) -> None:
        await anyio.lowlevel.checkpoint() if kind is None else None
        self.left = "committed" if kind is None else f"rolled back by {kind.__name__}"


class Bank:
    """Performs charges and refunds, and keeps the list of them."""

    def __init__(self) -> None:
        self.performed: list[str] = []

    def charge(self, effect: Charge) -> str:
        self.performed.append(f"charge {effect.cents}")
        return f"charged {effect.cents}"

    async def refund(self, effect: Refund) -> str:
        await anyio.lowlevel.checkpoint()
        self.performed.append(f"refund {effect.cents}")
        return f"refunded {effect.cents}"

    def handlers(self) -> list[Handler]:
        return [Charge.handled_by(self.charge), Refund.handled_by(self.refund)]


def double(effect: Double) -> int:
    return 2 * effect.n


async def double_later(effect: Double) -> int:
    await anyio.lowlevel.checkpoint()
    return 2 * effect.n


async def too_slow(_effect: Slow) -> str:
    await anyio.sleep_forever()
    raise AssertionError


async def boom(effect: Boom) -> str:
    await anyio.lowlevel.checkpoint()
    raise effect.error


def boom_at_once(effect: Boom) -> str:
    raise effect.error


class Count:
    """How often the event loop was given control."""

    def __init__(self) -> None:
        self.points = 0


@types.coroutine
def counting(count: Count, coroutine: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Run *coroutine*, counting the points at which it awaits the event loop."""
    value: Any = None
    error: BaseException | None = None
    while True:
        try:
            item = coroutine.send(value) if error is None else coroutine.throw(error)
        except StopIteration as stop:
            result: T = stop.value
            return result
        count.points += 1
        value = error = None
        try:
            value = yield item
        except BaseException as raised:  # noqa: BLE001 - the event loop's errors belong to the coroutine
            error = raised
