"""Random programs: workflows as data, over every family of effects; and the strategy that makes them."""

import functools
from collections.abc import Sequence
from typing import TypeAlias

from hypothesis import strategies as st
from msgspec import Struct

from skuld_async import Clock, Effectful, Fresh, Handler, Return, Throw, computation, mark_loop

from .shop import (
    Charge,
    Comment,
    Declined,
    LateOutOfStock,
    Notify,
    OutOfStock,
    Placed,
    Refused,
    Shop,
    cart,
    events,
    limit,
    total,
)


class Put(Struct, frozen=True, tag=True):
    number: int


class Read(Struct, frozen=True, tag=True):
    """State, Reader, the clock and a fresh id."""


class Add(Struct, frozen=True, tag=True):
    item: str


class Happen(Struct, frozen=True, tag=True):
    number: int


class Call(Struct, frozen=True, tag=True):
    """A port call that fails for some numbers."""

    number: int
    caught: bool = True


class Tell(Struct, frozen=True, tag=True):
    """An effect whose handler requests effects itself."""

    text: str


class Raise(Struct, frozen=True, tag=True):
    caught: bool


class Question(Struct, frozen=True, tag=True):
    about: str


class Sub(Struct, frozen=True, tag=True):
    """A computation, with a scope of its own or without."""

    steps: list["Step"]
    scope: int | None = None
    awaited: bool = False


class Repeat(Struct, frozen=True, tag=True):
    """A loop that marks."""

    steps: list["Step"]
    turns: int


Step: TypeAlias = Put | Read | Add | Happen | Call | Tell | Raise | Question | Sub | Repeat


class Carry(Struct, frozen=True):
    turn: int
    seen: list[str]


def with_item(item: str, items: list[str]) -> list[str]:
    """*items*, and *item* behind them."""
    return [*items, item]


@computation
async def program(steps: list[Step], depth: int = 0) -> Effectful[list[str]]:  # noqa: C901, PLR0912 - a case a step
    """Do the steps; what each of them saw is the result."""
    seen: list[str] = []
    for place, step in enumerate(steps):
        match step:
            case Put(number):
                yield total.put(number)
            case Read():
                seen.append(f"{(yield total.get())} {(yield cart.get())} {(yield limit.ask())}")
                seen.append(f"{(yield Clock.now())} {(yield Fresh.uuid())}")
            case Add(item):
                seen.append(repr((yield cart.modify(functools.partial(with_item, item)))))
            case Happen(number):
                yield events.emit(Placed(number) if number % 2 else Refused(number))
            case Call(number, caught):
                try:
                    seen.append((yield Charge(number) if number % 2 else Shop.pay(number)))
                except Exception as error:
                    if not caught:
                        raise
                    seen.append(f"{type(error).__name__} {error}")
            case Tell(text):
                yield Notify(text)
            case Raise(caught):
                try:
                    yield Throw(LookupError(f"at {place}"))
                except LookupError as error:
                    if not caught:
                        raise
                    seen.append(repr(error))
            case Question(about):
                seen.append((yield Comment(about)))
            case Sub(inner, scope, awaited):
                comp = program(inner, depth + 1)
                if scope is not None:
                    comp = comp.handle(total.handler(scope))
                said = (await comp) if awaited else (yield comp)
                seen.append(repr(said))
            case Repeat(inner, turns):
                carry = Carry(0, seen)
                while carry.turn < turns:
                    carry = yield mark_loop(f"{depth}-{place}", Carry, carry=carry)
                    said = yield program(inner, depth + 1)
                    carry = Carry(carry.turn + 1, [*carry.seen, repr(said)])
                seen = list(carry.seen)
    yield Return(seen)


class Outside:
    """What the programs call: a function of its arguments, with errors among its answers."""

    async def charge(self, amount: int) -> str:
        return f"receipt {amount}"

    async def pay(self, amount: int) -> str:
        if amount % 8 == 2:
            raise Declined("no funds", amount)
        return f"paid {amount}"

    async def reserve(self, item: str, count: int = 1) -> int:
        return count


def charge(effect: Charge) -> str:
    """A sync handler that fails in several ways."""
    errors: list[Exception] = [
        TimeoutError("slow"),
        OutOfStock("book", left=effect.amount),
        LateOutOfStock("pen", days=2),
        RuntimeError(complex(1, 2)),
        ExceptionGroup("two", [KeyError("k"), OutOfStock("ink")]),
    ]
    if effect.amount % 3 == 0:
        raise errors[effect.amount % len(errors)]
    return f"receipt {effect.amount}"


async def notify(effect: Notify) -> None:
    """An async handler that requests effects itself."""
    await total.modify(lambda number: number + len(effect.text))
    await Shop.charge(len(effect.text))
    await events.emit(Placed(len(effect.text)))


def handlers() -> Sequence[Handler]:
    """The outermost scope of each program."""
    return [
        total.handler(1),
        cart.handler([]),
        limit.handler(7),
        events.handler(),
        Shop.handler(Outside()),
        Charge.handled_by(charge),
        Notify.handled_by(notify),
    ]


def answer(question: Comment) -> str:
    """The answer to a question of a program."""
    return f"answer to {question.about}"


_numbers = st.integers(-3, 40)
_texts = st.text('ab\N{SNAKE}"\\', max_size=3)
_simple = st.one_of(
    st.builds(Put, _numbers),
    st.builds(Read),
    st.builds(Add, _texts),
    st.builds(Happen, _numbers),
    st.builds(Call, _numbers, st.booleans() | st.just(value=True)),
    st.builds(Tell, _texts),
    st.builds(Raise, st.just(value=True) | st.booleans()),
    st.builds(Question, _texts),
)


def _nested(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    inner = st.lists(steps, max_size=4)
    return st.one_of(
        st.builds(Sub, inner, st.none() | _numbers, st.booleans()),
        st.builds(Repeat, inner, st.integers(0, 3)),
    )


programs: st.SearchStrategy[list[Step]] = st.lists(st.recursive(_simple, _nested, max_leaves=8), max_size=5)
