"""Realistic computations, each with its handlers and its answers: what all of them promise is tested over each.

`CASES` is the list. A case makes its handlers anew for each run, because what stands at the other end has state of its
own.
"""

import enum
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, Protocol
from uuid import UUID

import anyio
from msgspec import Struct

from skuld_async import (
    Clock,
    Command,
    Computation,
    DomainError,
    Effect,
    EffectError,
    Effectful,
    EventAccumulator,
    Fresh,
    Handler,
    Port,
    Random,
    Reader,
    Return,
    State,
    Throw,
    Writer,
    Yield,
    bracket,
    computation,
    lifetime,
    mark_loop,
    operation,
    port,
)


@dataclass(frozen=True)
class Case:
    """One computation with what it needs."""

    name: str
    make: Callable[[], Computation[Any]]
    handlers: Callable[[], Sequence[Handler]]
    answer: Callable[[Any], Any] | None = None
    ends: Literal["Completed", "Failed"] = "Completed"
    options: dict[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return self.name


# -- an approval: ports, a question, events ----------------------------------------------------------------------------


class Item(Struct, frozen=True):
    name: str
    price: Decimal


@dataclass(frozen=True)
class Purchase:
    number: int
    items: tuple[Item, ...]
    labels: frozenset[str] = frozenset()


class Approved(Struct, frozen=True, tag=True):
    number: int
    by: str


class Rejected(Struct, frozen=True, tag=True):
    number: int
    why: str = ""


class Decision(Yield[Literal["approved", "rejected"]], frozen=True):
    purchase: Purchase


class Limits(Struct, frozen=True):
    most: Decimal


class Declined(DomainError):
    code: int
    reason: str = "unknown"


class Shop(Port, Protocol):
    @operation
    async def check(self, purchase: Purchase) -> Purchase: ...

    @operation(raises=(LookupError,))
    async def reserve(self, item: str, count: int = 1) -> str: ...

    @operation
    async def charge(self, amount: Decimal) -> str: ...

    @operation
    async def refund(self, receipt: str) -> None: ...

    @operation
    async def give_back(self, reservation: str) -> None: ...


class FakeShop:
    """A shop whose bank is down at first, and whose shelf holds no lamps."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures

    async def check(self, purchase: Purchase) -> Purchase:
        await anyio.lowlevel.checkpoint()
        return purchase

    def reserve(self, item: str, count: int = 1) -> str:
        if item == "lamp":
            message = "no lamps"
            raise LookupError(message)
        return f"{count} {item}"

    async def charge(self, amount: Decimal) -> str:
        await anyio.lowlevel.checkpoint()
        if amount > 1000:
            raise Declined(7, reason="too much")
        if self.failures:
            self.failures -= 1
            message = "the bank is down"
            raise ConnectionError(message)
        return f"receipt for {amount}"

    async def refund(self, receipt: str) -> None: ...

    async def give_back(self, reservation: str) -> None: ...


PURCHASE = Purchase(42, (Item("desk", Decimal("120.50")), Item("lamp", Decimal("30.00"))), frozenset({"office", "tax"}))

events = EventAccumulator("corpus.events", Approved | Rejected)
stock = State("corpus.stock", dict[str, int])
tags = State("corpus.tags", set[str])
total = State("corpus.total", Decimal)
limits = Reader("corpus.limits", Limits)
token = Reader("corpus.token", str, logged=False)


@computation
async def approval(purchase: Purchase) -> Effectful[str]:
    valid = yield Shop.check(purchase)
    decision = yield Decision(valid).named("approval")
    if decision == "approved":
        receipt = yield Shop.charge(sum((item.price for item in valid.items), Decimal()))
        yield events.emit(Approved(valid.number, "boss"))
        yield Return(receipt)
    else:
        yield events.emit(Rejected(valid.number))
        yield Return("refused")


# -- a conversation: a loop with carry, and nested loops ---------------------------------------------------------------


class Message(Struct, frozen=True):
    role: Literal["user", "assistant"]
    text: str


class UserTurn(Yield[str], frozen=True):
    said: list[Message]


@port
async def complete(messages: list[Message]) -> Message:
    return Message("assistant", f"reply {len(messages)} to {messages[-1].text}")


@computation
async def conversation() -> Effectful[list[Message]]:
    messages: list[Message] = []
    while True:
        messages = yield mark_loop("conversation", list[Message], carry=messages)
        text = yield UserTurn(messages[-1:])
        if text == "bye":
            yield Return(messages)
            return
        yield stock.modify(lambda counted: {**counted, "turns": counted.get("turns", 0) + 1})
        reply = yield complete([*messages, Message("user", text)])
        messages = [*messages, Message("user", text), reply][-4:]


def say(question: UserTurn) -> str:
    return "bye" if question.said and "reply 5" in question.said[-1].text else f"after {len(question.said)}"


@computation
async def nested_loops() -> Effectful[list[tuple[int, int]]]:
    seen: list[tuple[int, int]] = []
    outer = 0
    while outer < 3:
        outer, seen = yield mark_loop("outer", tuple[int, list[tuple[int, int]]], carry=(outer, seen))
        inner = 0
        while inner < 2:
            inner, seen = yield mark_loop(
                "inner", tuple[int, list[tuple[int, int]]], carry=(inner, seen), key=str(outer)
            )
            yield Shop.reserve("desk", inner)
            seen = [*seen, (outer, inner)]
            inner += 1
        yield total.modify(lambda value: value + 1)
        outer += 1
    yield Shop.reserve("chair")
    yield Return(seen)


# -- a saga: bracket and ensure ----------------------------------------------------------------------------------------


@computation
async def pays(amount: Decimal, reservation: str) -> Effectful[str]:
    receipt = yield Shop.charge(amount)
    yield Shop.reserve(reservation)
    yield Return(receipt)


@computation
async def saga(amount: Decimal) -> Effectful[str]:
    """The bank declines, what was reserved is given back, and the caller goes on with what it can afford."""
    try:
        receipt = yield bracket(Shop.reserve("desk"), lambda kept: pays(amount, kept), Shop.give_back)
    except Declined as error:
        yield events.emit(Rejected(error.code, error.reason))
        decision = yield Decision(PURCHASE)
        receipt = yield bracket(
            Shop.reserve("chair", 2),
            lambda kept: pays(amount / 100, kept).ensure(events.emit(Approved(2, decision))),
            Shop.give_back,
        )
    yield Return(receipt)


@computation
async def abandoned_saga() -> Effectful[str]:
    """What fails for good still cleans up, with a question on its way."""
    receipt = yield bracket(Shop.reserve("desk"), asks_and_fails, Shop.give_back).ensure(
        events.emit(Rejected(1, "given up"))
    )
    yield Return(receipt)


@computation
async def asks_and_fails(kept: str) -> Effectful[str]:
    decision = yield Decision(PURCHASE)
    yield Throw(Declined(9, reason=f"{decision} {kept}"))


# -- errors ------------------------------------------------------------------------------------------------------------


@computation
async def retries(attempts: int) -> Effectful[tuple[int, str]]:
    """A retry loop in the body: each attempt is a request of its own."""
    for attempt in range(attempts):
        try:
            receipt = yield Shop.charge(Decimal(10))
        except ConnectionError as error:
            assert error.args == ("the bank is down",)  # noqa: PT017 - what the body sees of it
            yield total.modify(lambda value: value + 1)
        else:
            yield Return((attempt, receipt))
            return
    yield Throw(Declined(attempts))


class Strange(Effect[str], frozen=True):
    number: int


async def strange(effect: Strange) -> str:
    await anyio.lowlevel.checkpoint()

    class LocalError(Exception):
        pass

    if effect.number == 1:
        raise LocalError(effect.number, "strange")
    if effect.number == 2:
        message = "several"
        raise ExceptionGroup(message, [ValueError("one"), ExceptionGroup("more", [KeyError("two"), LocalError(3)])])
    return "fine"


@computation
async def errors_caught() -> Effectful[list[str]]:
    """Errors of every kind, each caught, each leaving a trace in the result."""
    seen: list[str] = []
    try:
        yield Shop.reserve("lamp")
    except LookupError as error:
        seen.append(f"declared {error}")
    try:
        yield Shop.charge(Decimal(5000))
    except Declined as error:
        seen.append(f"domain {error.code} {error.reason}")
    try:
        yield Strange(1)
    except EffectError as error:
        seen.append(f"other {error.type_name.rpartition('.')[2]} {error.data}")
    try:
        yield Strange(2)
    except* ValueError as group:
        seen.append(f"group {group.exceptions!r}")
    except* EffectError as group:
        seen.append(f"rest {len(group.exceptions)}")
    except* KeyError as group:
        seen.append(f"keys {len(group.exceptions)}")
    try:
        yield Throw(ValueError("thrown"))
    except ValueError as error:
        seen.append(f"thrown {error}")
    finally:
        yield Strange(3)
    yield Return(seen)


# -- scopes: a reader with local, handlers that request, a lifetime ----------------------------------------------------


@computation
async def reads() -> Effectful[list[Decimal]]:
    seen: list[Decimal] = []
    for comp in (limit(), limits.local(lambda outer: Limits(outer.most / 2), limit()), limit()):
        value = yield comp
        seen.append(value)
    secret = yield token.ask()
    yield Shop.reserve(f"{len(secret)} letters")
    yield Return(seen)


@computation
async def limit() -> Effectful[Decimal]:
    found = yield limits.ask()
    yield Decision(PURCHASE)
    yield Return(found.most)


class Priced(Effect[Decimal], frozen=True):
    """Answered by a handler that requests effects itself."""

    item: str


async def price(effect: Priced) -> Decimal:
    await stock.modify(lambda counted: {**counted, effect.item: counted.get(effect.item, 0) + 1})
    kept = await Shop.reserve(effect.item)
    receipt = await pays(Decimal(1), kept)
    return Decimal(len(receipt))


@computation
async def prices() -> Effectful[tuple[Decimal, dict[str, int]]]:
    first = yield Priced("desk")
    yield Decision(PURCHASE)
    second = await Priced("chair")
    counted = yield stock.get()
    yield Return((first + second, counted))


@asynccontextmanager
async def connection() -> AsyncGenerator[list[Handler]]:
    await anyio.lowlevel.checkpoint()
    yield [Strange.handled_by(lambda effect: f"inside {effect.number}"), total.handler(Decimal(10))]
    await anyio.lowlevel.checkpoint()


@computation
async def scoped() -> Effectful[tuple[str, Decimal, Decimal]]:
    inside = yield counts(2).handle(lifetime(connection))
    outside = yield counts(1)
    text = yield Strange(3)
    yield Return((text, inside, outside))


@computation
async def counts(number: int) -> Effectful[Decimal]:
    yield Strange(number + 3)
    yield total.modify(lambda value: value + number)
    yield Decision(PURCHASE)
    value = yield total.get()
    yield Return(value)


# -- sub-computations: deep, recursive, as coroutines ------------------------------------------------------------------


@computation
async def hanoi(height: int, source: str, target: str, spare: str) -> Effectful[int]:
    """Recursive, half of it awaited."""
    if height == 0:
        yield Return(0)
        return
    below = yield hanoi(height - 1, source, spare, target)
    yield Shop.reserve(f"{source} to {target}", height)
    above = await hanoi(height - 1, spare, target, source)
    yield Return(below + 1 + above)


@computation
async def in_a_coroutine(purchase: Purchase) -> str:
    """A body that only awaits, with a native return."""
    valid = await Shop.check(purchase)
    decision = await Decision(valid)
    if decision == "rejected":
        return "refused"
    async with anyio.create_task_group():
        number = await approval(valid)
    await events.emit(Rejected(2, number))
    return f"{number}, {await hanoi(2, 'a', 'b', 'c')}"


# -- values: sets, dicts, enums, dates ---------------------------------------------------------------------------------


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Bag(Struct, frozen=True):
    colours: list[Colour]
    words: frozenset[str]
    counted: dict[str, int]
    when: datetime
    pair: tuple[int, bytes]
    number: UUID | None = None


class Pack(Effect[Bag], frozen=True):
    bag: Bag


@computation
async def collects(words: list[str]) -> Effectful[Bag]:
    """Sets and dicts go through effects, states and the result; whoever iterates over a set sorts it."""
    now = yield Clock.now()
    seen = yield tags.get()
    for word in sorted({*words, *seen}):
        yield Shop.reserve(word)
        yield tags.modify(lambda known: known | {word})  # noqa: B023 - called at once
        yield stock.modify(lambda counted: {**counted, word: len(word)})  # noqa: B023
    counted = yield stock.get()
    for name in counted:
        yield Shop.reserve(name, counted[name])
    number = yield Fresh.uuid()
    bag = yield Pack(Bag([Colour.RED, Colour.BLUE], frozenset(words), counted, now, (1, b"\x00\xff"), number))
    yield Return(bag)


@computation
async def times() -> Effectful[list[tuple[datetime, UUID]]]:
    """Fresh and Clock between questions: the same on each replay."""
    seen: list[tuple[datetime, UUID]] = []
    for _ in range(3):
        now = yield Clock.now()
        number = yield Fresh.uuid()
        yield Shop.reserve(f"{number} at {now + timedelta(days=1)}")
        yield Decision(PURCHASE)
        seen.append((now, number))
    assert len({number for _, number in seen}) == 3
    yield Return(seen)


# -- interleaved questions ---------------------------------------------------------------------------------------------


class HowMany(Yield[int | None], frozen=True):
    what: str


class Anything(Yield[dict[str, list[int]]], frozen=True):
    pass


@computation
async def interview() -> Effectful[dict[str, Any]]:
    """Questions of several types, asked from several depths, some of them twice, with calls in between."""
    found: dict[str, Any] = {}
    for what in ("desk", "chair"):
        found[what] = yield HowMany(what)
        if found[what] is not None:
            kept = yield asks_for(what, found[what])
            found[f"{what} kept"] = kept
    found["again"] = yield HowMany("desk")
    found["anything"] = yield Anything()
    found["untyped"] = yield Yield.of({"really": "sure?"})
    yield Return(found)


@computation
async def asks_for(what: str, count: int) -> Effectful[str]:
    decision = yield Decision(Purchase(count, (Item(what, Decimal(1)),)))
    kept = yield Shop.reserve(what, count)
    yield Return(f"{decision}: {kept}")


def interviewed(question: Any) -> Any:
    match question:
        case HowMany(what="chair"):
            return None
        case HowMany():
            return 3
        case Anything():
            return {"numbers": [1, 2]}
        case Decision():
            return "approved"
        case _:
            return ["yes", {"sure": 1.5}]


@computation
async def never_answers() -> Effectful[None]:
    """Ends without a `Return`, which gives None, and yields nothing but state."""
    for number in range(3):
        yield total.put(Decimal(number))


# -- notes: heard, changed and censored, in loops, around questions and errors -----------------------------------------

notes = Writer("corpus.notes", str)


@computation
async def tells(what: str) -> Effectful[str]:
    yield notes.tell(f"{what} 1")
    decision = yield Decision(PURCHASE)
    yield notes.tell(f"{what} 2")
    yield Return(decision)


@computation
async def tells_and_edits(what: str) -> Effectful[tuple[str, Any]]:
    decision = yield notes.censor(tells(what), lambda told: [note.upper() for note in told])

    def change(told: list[str]) -> list[str]:
        return [*reversed(told), f"{what} 3"]

    yield Return((decision, change))


@computation
async def tells_and_fails() -> Effectful[None]:
    yield notes.tell("a secret")
    yield Shop.reserve("lamp")


@computation
async def tells_in_a_loop(turns: int) -> Effectful[int]:
    turn = 0
    while turn < turns:
        turn = yield mark_loop("tells", int, carry=turn)
        yield notes.tell(f"turn {turn}")
        yield tells(f"in turn {turn}")
        turn += 1
    yield Return(turn)


@computation
async def writes() -> Effectful[list[Any]]:
    seen: list[Any] = []
    yield notes.tell("first")
    try:
        yield notes.censor(tells_and_fails(), lambda told: ["removed"] * len(told))
    except LookupError:
        seen.append((yield notes.peek()))
    turn = 0
    while turn < 2:
        turn, seen = yield mark_loop("writes", tuple[int, list[Any]], carry=(turn, seen))
        _, told = yield notes.listen(tells(f"{turn}"))
        decision = yield notes.pass_(tells_and_edits(f"edited {turn}"))
        turn, seen = turn + 1, [*seen, told, decision]
    seen.append((yield notes.listen(notes.listen(tells_in_a_loop(3)))))
    seen.append((yield notes.listen(tells("elsewhere").handle(notes.handler()))))
    yield Return(seen)


# -- chance ------------------------------------------------------------------------------------------------------------


class Lot(Effect[list[str]], frozen=True):
    """Its handler draws."""

    names: list[str]


async def lot(effect: Lot) -> list[str]:
    count = await Random.int(1, len(effect.names))
    await Shop.reserve("lot", count)
    return await Random.sample(effect.names, count)


@computation
async def draws() -> Effectful[list[Any]]:
    seen: list[Any] = []
    while len(seen) < 3:
        seen = yield mark_loop("draws", list[Any], carry=seen)
        chance = yield Random.random()
        number = yield Random.int(-(10**30), 10**30)
        kept = yield Random.choice([Item("pen", Decimal(1)), Item("cup", Decimal(2))])
        yield Shop.reserve(kept.name, len(seen))
        drawn = yield Lot(["ada", "bob", "eve"])
        yield Decision(PURCHASE)
        order = yield Random.shuffle(range(5))
        seen = [*seen, (chance, str(number), kept.name, drawn, order)]
    yield Return(seen)


# -- commands, executed by computations --------------------------------------------------------------------------------


class Pay(Command[str], frozen=True, tag=True):
    amount: Decimal


class Ship(Command[tuple[str, UUID]], frozen=True, tag=True):
    item: str
    count: int = 1


class Ask(Command[str], frozen=True, tag=True):
    about: str


@computation
async def ship(command: Ship) -> Effectful[tuple[str, UUID]]:
    """Tells, draws, marks, asks, and executes another command: all under the id of the effect that it answers."""
    value, told = yield notes.listen(asked_in_a_loop(command.item))
    box = yield Random.choice(["small", "large"])
    paid = yield Pay(Decimal(len(told))).execute()
    number = yield Fresh.uuid()
    yield total.modify(lambda sum_: sum_ + 1)
    yield Return((f"{value} {box} {paid}", number))


@computation
async def asked_in_a_loop(item: str) -> Effectful[str]:
    turn, decision = 0, ""
    while turn < 2:
        turn, decision = yield mark_loop("asked", tuple[int, str], carry=(turn, decision))
        yield notes.tell(f"{item} {turn}")
        answer = yield Decision(PURCHASE)
        turn, decision = turn + 1, f"{decision}{answer}"
    yield Return(decision)


class Clerk:
    @computation
    async def pay(self, command: Pay) -> str:
        await notes.tell(f"paying {command.amount}")
        return await Shop.charge(command.amount)


async def dispatch(command: Command[Any]) -> Any:
    assert isinstance(command, Ask)
    return await Shop.reserve(command.about)


@computation
async def executes(commands: list[Pay | Ship | Ask]) -> Effectful[list[Any]]:
    seen: list[Any] = []
    for command in commands:
        try:
            answer = yield command.execute()
        except LookupError as error:
            answer = str(error)
        seen.append(answer)
        yield Decision(PURCHASE)
    seen += yield notes.peek()
    chance = yield Random.random()
    yield Return([*seen, chance])


def shop(failures: int = 0) -> Callable[[], Sequence[Handler]]:
    def make() -> Sequence[Handler]:
        return (
            Shop.handler(FakeShop(failures)),
            Strange.handled_by(strange),
            Priced.handled_by(price),
            Pack.handled_by(lambda effect: effect.bag),
            complete.default(),
            events.handler(),
            stock.handler({}),
            tags.handler({"used"}),
            total.handler(Decimal()),
            limits.handler(Limits(Decimal(100))),
            token.handler("secret"),
        )

    return make


def approves(_question: object) -> str:
    return "approved"


def office(*more: Handler) -> Callable[[], Sequence[Handler]]:
    return lambda: (
        *shop()(),
        notes.handler(),
        Lot.handled_by(lot),
        Command.handled_by(dispatch),
        Pay.handled_by(Clerk().pay),
        Ship.handled_by(ship),
        *more,
    )


COMMANDS: list[Pay | Ship | Ask] = [Pay(Decimal(3)), Ship("desk", 2), Ask("lamp"), Ask("desk"), Ship("chair")]


CASES: list[Case] = [
    Case("approval", lambda: approval(PURCHASE), shop(), approves),
    Case("rejection", lambda: approval(PURCHASE), shop(), lambda _: "rejected"),
    Case("approval-declined", lambda: approval(Purchase(1, (Item("car", Decimal(5000)),))), shop(), approves, "Failed"),
    Case("conversation", conversation, shop(), say),
    Case("conversation-unpruned", conversation, shop(), say, options={"prune_loops": False}),
    Case("nested-loops", nested_loops, shop()),
    Case("saga", lambda: saga(Decimal(2000)), shop(), approves),
    Case("saga-that-works", lambda: saga(Decimal(20)), shop()),
    Case("abandoned-saga", abandoned_saga, shop(), approves, "Failed"),
    Case("retries", lambda: retries(4), shop(2)),
    Case("retries-in-vain", lambda: retries(2), shop(9), ends="Failed"),
    Case("errors-caught", errors_caught, shop()),
    Case("reader-and-local", reads, shop(), approves),
    Case("handlers-that-request", prices, shop(), approves),
    Case("scopes-and-lifetimes", scoped, shop(), approves),
    Case("recursion", lambda: hanoi(4, "a", "b", "c"), shop()),
    Case("coroutine", lambda: in_a_coroutine(PURCHASE), shop(), approves),
    Case("sets-and-dicts", lambda: collects(["pen", "cup", "ink"]), shop()),
    Case("fresh-and-clock", times, shop(), approves),
    Case("interview", interview, shop(), interviewed),
    Case("no-return", never_answers, shop()),
    Case("ensure-around-all", lambda: approval(PURCHASE).ensure(Shop.refund("all")), shop(), approves),
    Case("handle-around-all", lambda: scoped().handle(total.handler(Decimal(7))), shop(), approves),
    Case("notes", writes, office(), approves),
    Case("notes-unpruned", writes, office(), approves, options={"prune_loops": False}),
    Case("censored-failure", lambda: notes.censor(tells_and_fails(), lambda told: []), office(), ends="Failed"),
    Case("chance", draws, office(), approves),
    Case("chance-fixed", draws, office(Random.fixed(0.5, 0.1, 0.99)), approves),
    Case("chance-seeded", lambda: draws().handle(Random.seeded("corpus"), Lot.handled_by(lot)), office(), approves),
    Case(
        "chance-fixed-inside", lambda: draws().handle(Random.fixed(0.3, 0.7), Lot.handled_by(lot)), office(), approves
    ),
    Case("commands", lambda: executes(COMMANDS), office(), approves),
    Case("commands-fixed", lambda: executes(COMMANDS), office(Random.fixed(0.5, 0.1)), approves),
]
