"""Random programs: workflows as data, over every family of effects; and the strategy that makes them."""

import functools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Literal, TypeAlias

from hypothesis import strategies as st
from msgspec import Struct

from skuld_async import (
    Clock,
    Command,
    Computation,
    Effect,
    Effectful,
    Fresh,
    Handler,
    Random,
    Return,
    Throw,
    Transaction,
    Writer,
    computation,
    current_call,
    mark_loop,
    rollback,
    transact,
)

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


class Book(Struct, frozen=True, tag=True):
    """A row in the database; a transaction that holds one of certain numbers cannot be committed."""

    number: int


class Draw(Struct, frozen=True, tag=True):
    """What chance gives."""

    bound: int


class Note(Struct, frozen=True, tag=True):
    """A note of a Writer."""

    text: str


class Execute(Struct, frozen=True, tag=True):
    """A command, whose handler is a computation that opens a transaction; some fail."""

    number: int


class Transact(Struct, frozen=True, tag=True):
    """A transaction, and how it ends."""

    steps: list["Step"]
    end: Literal["returns", "raises", "rolls back", "swallows"]


class Writing(Struct, frozen=True, tag=True):
    """What is told in these steps is listened to, or changed."""

    steps: list["Step"]
    how: Literal["listen", "censor", "pass"]


class Ensure(Struct, frozen=True, tag=True):
    """Steps with their cleanup."""

    steps: list["Step"]
    cleanup: list["Step"]


class Sub(Struct, frozen=True, tag=True):
    """A computation, with a scope of its own or without."""

    steps: list["Step"]
    scope: int | None = None
    awaited: bool = False


class Repeat(Struct, frozen=True, tag=True):
    """A loop that marks."""

    steps: list["Step"]
    turns: int


Step: TypeAlias = (
    Put
    | Read
    | Add
    | Happen
    | Call
    | Tell
    | Raise
    | Question
    | Book
    | Draw
    | Note
    | Execute
    | Transact
    | Writing
    | Ensure
    | Sub
    | Repeat
)

notes = Writer("notes", str)


class Row(Effect[int], frozen=True):
    """Answered by the database."""

    number: int


class Move(Command[str], frozen=True):
    number: int


class Carry(Struct, frozen=True):
    turn: int
    seen: list[str]


def with_item(item: str, items: list[str]) -> list[str]:
    """*items*, and *item* behind them."""
    return [*items, item]


def shouted(told: list[str]) -> list[str]:
    """What a Writer's notes are changed to."""
    return [f"{len(told)} notes", *(note.upper() for note in told)]


@computation
async def program(steps: list[Step], closed: bool = False) -> Effectful[list[str]]:  # noqa: C901, PLR0912 - a case a step
    """Do the steps; what each of them saw is the result. Nothing is asked where it is *closed*."""
    seen: list[str] = []
    for place, step in enumerate(steps):
        match step:
            case Put(number):
                yield total.put(number)
            case Read():
                seen.append(f"{(yield total.get())} {(yield cart.get())} {(yield limit.ask())} {(yield notes.peek())}")
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
                seen.append("" if closed else (yield Comment(about)))
            case Book(number):
                seen.append(f"row {(yield Row(number))}")
            case Draw(bound):
                seen.append(f"{(yield Random.random())} {(yield Random.int(-bound, bound))}")
                seen.append(f"{(yield Random.choice('abc'))} {(yield Random.shuffle(range(bound)))}")
            case Note(text):
                yield notes.tell(text)
            case Execute(number):
                try:
                    seen.append((yield Move(number).execute()))
                except Exception as error:  # noqa: BLE001 - it is an answer as well
                    seen.append(f"{type(error).__name__} {error}")
            case Transact(inner, end):
                try:
                    comp = program(inner, closed=True) if end == "returns" else ending(inner, end)
                    seen.append(repr((yield transact(comp))))
                except Exception as error:  # noqa: BLE001 - as above
                    seen.append(f"{type(error).__name__} {error}")
            case Writing(inner, how):
                seen.append(repr((yield writing(inner, how, closed))))
            case Ensure(inner, cleanup):
                seen.append(repr((yield program(inner, closed).ensure(program(cleanup, closed)))))
            case Sub(inner, scope, awaited):
                comp = program(inner, closed)
                if scope is not None:
                    comp = comp.handle(total.handler(scope), notes.handler(), Random.fixed(0.9, 0.2, 0.5))
                said = (await comp) if awaited else (yield comp)
                seen.append(repr(said))
            case Repeat(inner, turns):
                carry = Carry(0, seen)
                while carry.turn < turns:
                    carry = yield mark_loop(f"{place}", Carry, carry=carry)
                    said = yield program(inner, closed)
                    carry = Carry(carry.turn + 1, [*carry.seen, repr(said)])
                seen = list(carry.seen)
    yield Return(seen)


@computation
async def ending(steps: list[Step], end: str) -> Effectful[list[str]]:
    """The body of a transaction."""
    seen = yield program(steps, closed=True)
    if end == "raises":
        raise LookupError(len(seen))
    if end == "rolls back":
        yield rollback("why not")
    if end == "swallows":
        try:
            yield rollback("swallowed")
        except Exception:  # noqa: BLE001 - it rolls back all the same
            yield Row(1)
    yield Return(seen)


def writing(steps: list[Step], how: str, closed: bool) -> Computation[Any]:
    """The steps, inside a part of Writer."""
    if how == "listen":
        return notes.listen(program(steps, closed))
    if how == "censor":
        return notes.censor(program(steps, closed), shouted)
    return notes.pass_(passing(steps, closed))


@computation
async def passing(steps: list[Step], closed: bool) -> Effectful[tuple[list[str], Any]]:
    said = yield program(steps, closed)
    yield Return((said, shouted))


class Database:
    """Rows, of which those of open transactions are lost with the process."""

    def __init__(self, committed: Sequence[tuple[int, str]] = ()) -> None:
        self.levels = [list(committed)]

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        self.levels.append([])
        try:
            yield
        except BaseException:
            self.levels.pop()
            raise
        rows = self.levels.pop()
        if any(number % 5 == 0 for number, _ in rows):
            message = "a constraint of the commit"
            raise ConnectionError(message)
        self.levels[-1] += rows

    async def insert(self, effect: Row) -> int:
        self.levels[-1].append((effect.number, current_call().key))
        return effect.number

    @property
    def committed(self) -> list[tuple[int, str]]:
        """What a crash leaves; no two rows have the same key."""
        rows = list(self.levels[0])
        assert len({key for _, key in rows}) == len(rows), rows
        return rows


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


@computation
async def move(command: Move) -> Effectful[str]:
    """Handles a command by transactions: one of its own number, and one that is caught here."""
    number = command.number
    try:
        yield transact(ending([Note("kept?"), Put(number), Book(1)], "rolls back" if number % 2 else "returns"))
    except Exception as error:
        if number % 3:
            raise
        yield notes.tell(f"{type(error).__name__}")
    yield notes.listen(transact(ending([Note("moved"), Draw(2), Book(number)], "returns")))
    yield Return(f"moved {(yield total.get())}")


def handlers(database: Database | None = None) -> Sequence[Handler]:
    """The outermost scope of each program."""
    database = database or Database()
    return [
        Row.handled_by(database.insert),
        Transaction.handler(database.transaction),
        Move.handled_by(move),
        notes.handler(),
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
    st.builds(Book, _numbers),
    st.builds(Draw, st.integers(0, 3)),
    st.builds(Note, _texts),
    st.builds(Execute, _numbers),
)


def _nested(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    inner = st.lists(steps, max_size=4)
    return st.one_of(
        st.builds(Sub, inner, st.none() | _numbers, st.booleans()),
        st.builds(Repeat, inner, st.integers(0, 3)),
        st.builds(Transact, inner, st.sampled_from(["returns", "raises", "rolls back", "swallows"])),
        st.builds(Transact, inner, st.just("returns")),
        st.builds(Writing, inner, st.sampled_from(["listen", "censor", "pass"])),
        st.builds(Ensure, inner, inner),
    )


programs: st.SearchStrategy[list[Step]] = st.lists(st.recursive(_simple, _nested, max_leaves=8), max_size=5)
