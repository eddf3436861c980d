"""What users write, with the types that both checkers must see. Its computations also run, in test_typing.py."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Generic, Literal, Never, Protocol, TypeAlias, assert_never, assert_type
from uuid import UUID

from msgspec import Struct
from typing_extensions import TypeVar

from skuld_async import (
    AtomicState,
    Cancelled,
    Cell,
    Channel,
    ChannelClosedError,
    Clock,
    Command,
    Completed,
    Computation,
    CurrentCall,
    Definition,
    DivergenceError,
    DomainError,
    Effect,
    Effectful,
    EventAccumulator,
    Failed,
    Fresh,
    Handler,
    Installed,
    Interceptor,
    Kind,
    Log,
    Observation,
    Outcome,
    OutcomeUnknown,
    Parallel,
    Perform,
    Port,
    Random,
    Reader,
    Request,
    Retry,
    RetryAfter,
    Return,
    Session,
    State,
    Suspended,
    Task,
    TaskCancelledError,
    Throw,
    TimedOut,
    Wait,
    Won,
    Writer,
    Yield,
    bracket,
    cancel,
    computation,
    current_call,
    fork,
    join,
    lifetime,
    mark_loop,
    open_session,
    operation,
    port,
    replay,
    rerun,
    resume,
    run,
    start,
    with_timeout,
)
from skuld_async.testing import Script, VirtualClock, always_cold
from skuld_async.testing.plugin import AlwaysCold

T = TypeVar("T")


# -- data --------------------------------------------------------------------------------------------------------------


class Card(Struct, frozen=True, tag=True):
    number: str


class Cash(Struct, frozen=True, tag=True):
    amount: Decimal


@dataclass(frozen=True)
class Order:
    id: str
    total: Decimal


class Declined(DomainError):
    code: int
    reason: str = "unknown"


class OutOfStock(DomainError):
    order: str


# -- effects of one's own ----------------------------------------------------------------------------------------------


class Length(Effect[int], frozen=True):
    text: str


class Echo(Effect[T], Generic[T], frozen=True):
    value: T


async def length_async(effect: Length) -> int:
    return len(effect.text)


@computation
async def length_by_effects(effect: Length) -> Effectful[int]:
    doubled: str = yield Echo(effect.text * 2)
    yield Return(len(doubled) // 2)


@computation
async def length_from(start: int, effect: Length) -> int:
    return start + len(await Echo(effect.text))


@dataclass(frozen=True)
class Ruler:
    """A handler may be a computation that is a method."""

    unit: int

    @computation
    async def measure(self, effect: Length) -> Effectful[int]:
        yield Return(len(effect.text) // self.unit)


def own_effects() -> list[Handler]:
    assert_type(Length("four"), Length)
    assert_type(Echo("x"), Echo[str])
    return [
        Length.handled_by(lambda effect: len(effect.text)),
        Length.handled_by(length_async),
        Length.handled_by(length_by_effects),
        Length.handled_by(partial(length_from, 5)),
        Length.handled_by(Ruler(2).measure),
        Length.always(4),
        Echo[Any].handled_by(lambda effect: effect.value),
    ]


@computation
async def effects_by_await() -> int:
    assert_type(await Length("four"), int)
    assert_type(await Echo("x"), str)
    assert_type(await Clock.now(), datetime)
    assert_type(await Fresh.uuid(), UUID)
    return await Length("four")


@computation
async def effects_by_yield() -> Effectful[int]:
    length: int = yield Length("four")
    now: datetime = yield Clock.now()
    id_: UUID = yield Fresh.uuid()
    assert_type((length, now, id_), tuple[int, datetime, UUID])
    yield Return(length)


# -- computations ------------------------------------------------------------------------------------------------------


@computation
async def by_yield(order: Order, *, retries: int = 3) -> Effectful[Card | Cash]:
    if retries:
        yield Return(Card(order.id))
        return
    yield Return(Cash(order.total))


@computation
async def by_await(order: Order, *, retries: int = 3) -> Card | Cash:
    return await by_yield(order, retries=retries)


@computation(name="api.named", version="2")
async def named_by_yield(order: Order) -> Effectful[str]:
    yield Return(order.id)


@computation(name="api.named_await")
async def named_by_await(order: Order) -> str:
    return order.id


@computation
async def returns_nothing() -> Effectful[None]:
    yield Length("four")


@computation
async def first(items: list[T]) -> Effectful[T]:
    yield Return(items[0])


@dataclass(frozen=True)
class Shop:
    """Computations may be methods; they are found on the class and on its instances."""

    name: str

    @computation
    async def open(self, hours: int) -> Effectful[str]:
        yield Return(f"{self.name}: {hours} h")

    @computation(name="shop.close")
    async def close(self, *, early: bool = False) -> bool:
        return early


ORDER = Order("o-1", Decimal(10))


@computation
async def computations() -> Effectful[str]:
    assert_type(by_yield(ORDER), Computation[Card | Cash])
    assert_type(by_await(ORDER, retries=1), Computation[Card | Cash])
    assert_type(named_by_yield(ORDER), Computation[str])
    assert_type(named_by_await(ORDER), Computation[str])
    definition: Definition[..., str] = named_by_yield
    assert_type(definition.name, str)
    assert_type(named_by_yield.version, str | None)
    assert_type(returns_nothing(), Computation[None])
    assert_type(first([1, 2]), Computation[int])
    shop = Shop("corner")
    assert_type(shop.open(8), Computation[str])
    assert_type(shop.close(early=True), Computation[bool])
    assert_type(Shop.open(shop, 8), Computation[str])
    assert_type(named_by_yield.from_json(b'{"order": {"id": "o-1", "total": "10"}}'), Computation[str])

    assert_type(await by_yield(ORDER), Card | Cash)
    assert_type(await by_await(ORDER, retries=0), Card | Cash)
    assert_type(await first(["a"]), str)
    opened: str = yield shop.open(8)
    closed: bool = yield shop.close()
    yield Return(f"{opened}, {closed}")


# -- ports -------------------------------------------------------------------------------------------------------------


class Payments(Port, Protocol):
    @operation
    async def charge(self, order: Order, *, note: str = "") -> Card: ...

    @operation(raises=(Declined, OutOfStock), sig="payments.refund")
    async def refund(self, card: Card) -> None: ...


class Bank:
    """An implementation: any object with the methods, sync or async."""

    async def charge(self, order: Order, *, note: str = "") -> Card:
        return Card(f"{current_call().key.rpartition('/')[2]}:{order.id}{note}")

    def refund(self, card: Card) -> None:
        raise Declined(7, reason=card.number)


def charge_sync(order: Order, *, note: str = "") -> Card:
    return Card(order.id + note)


async def charge_async(order: Order, *, note: str = "") -> Card:
    return Card(order.id + note)


@computation
async def charge_by_effects(order: Order, *, note: str = "") -> Effectful[Card]:
    length: int = yield Length(note)
    yield Return(Card(order.id * length))


@port
async def quote(order: Order) -> Decimal:
    return order.total


@port(raises=(OutOfStock,), sig="stock")
async def stock(order: Order, amount: int = 1) -> Literal["reserved", "missing"]:
    if amount > 1:
        raise OutOfStock(order.id)
    return "reserved"


@port(retry=Retry(5, timedelta(seconds=2), retry_on=[ConnectionError], timeout=timedelta(minutes=1)))
async def rate(currency: str) -> Decimal:
    raise RetryAfter(timedelta(minutes=1)) from ConnectionError(currency)


class Ledger(Port, Protocol):
    @operation(at_most_once=True)
    async def book(self, order: Order) -> str: ...

    @operation(raises=(Declined,), retry=Retry(3, factor=1, jitter=0.5, give_up_on=(PermissionError,)))
    async def find(self, order: Order) -> str: ...


@computation
async def retries() -> Effectful[str]:
    assert_type(rate("EUR"), Effect[Decimal])
    assert_type(rate("EUR").retried(Retry(3)), Effect[Decimal])
    assert_type(Length("four").retried(None), Length)
    assert_type(await Ledger.find(ORDER).retried(Retry(3)), str)
    try:
        booking: str = yield Ledger.book(ORDER)
    except OutcomeUnknown as unknown:
        assert_type(unknown.key, str)
        booking = yield Ledger.find(ORDER)
    yield Return(booking)


def port_handlers() -> list[Handler]:
    assert_type(current_call, Callable[[], CurrentCall])
    return [
        Payments.charge.handled_by(charge_sync),
        Payments.charge.handled_by(charge_async),
        Payments.charge.handled_by(charge_by_effects),
        Payments.charge.always(Card("1")),
        Payments.handler(Bank()),
        quote.handled_by(lambda order: order.total + 1),
        quote.always(Decimal(1)),
        quote.default(),
        stock.default(),
        Ledger.book.always("booked"),
        Ledger.find.always("found"),
    ]


@computation
async def ports() -> Effectful[str]:
    assert_type(Payments.charge(ORDER), Effect[Card])
    assert_type(Payments.charge(ORDER, note="n"), Effect[Card])
    assert_type(Payments.refund(Card("1")), Effect[None])
    assert_type(quote(ORDER), Effect[Decimal])
    assert_type(await quote(ORDER), Decimal)
    assert_type(await stock(ORDER), Literal["reserved", "missing"])
    card = await Payments.charge(ORDER, note="!")
    assert_type(card, Card)
    try:
        yield Payments.refund(card)
    except Declined as error:
        assert_type(error.code, int)
        assert_type(error.reason, str)
        yield Return(error.reason)
        return
    yield Throw(OutOfStock(ORDER.id))


@computation
async def never_comes_back() -> str:
    assert_type(Throw(OutOfStock("o-1")), Throw)
    return assert_type(await Throw(OutOfStock(order="o-1")), Never)


# -- state, readers, events --------------------------------------------------------------------------------------------


cart = State("api.cart", list[Card | Cash])
paid = State("api.paid", Card | Cash | None)
mode = State("api.mode", Literal["fast", "cheap"])
limits = Reader("api.limits", dict[str, Decimal])
client = Reader("api.client", Bank, logged=False)
audit = EventAccumulator("api.audit", Card | Cash)

assert_type(cart, State[list[Card | Cash]])
assert_type(paid, State[Card | Cash | None])
assert_type(mode, State[Literal["fast", "cheap"]])
assert_type(limits, Reader[dict[str, Decimal]])
assert_type(client, Reader[Bank])
assert_type(audit, EventAccumulator[Card | Cash])


def keys() -> list[Handler]:
    return [
        cart.handler([]),
        paid.handler(None),
        mode.handler("fast"),
        limits.handler({"day": Decimal(5)}),
        client.handler(Bank()),
        audit.handler(),
        stock_left.handler(5),
        seats.handler({"1a": None}),
        paid_by.handler(),
    ]


@computation
async def states() -> Effectful[Decimal]:
    assert_type(cart.get(), Effect[list[Card | Cash]])
    assert_type(cart.put([Card("1")]), Effect[None])
    assert_type(cart.modify(lambda held: [*held, Card("2")]), Effect[list[Card | Cash]])
    assert_type(await mode.get(), Literal["fast", "cheap"])
    assert_type(await limits.ask(), dict[str, Decimal])
    assert_type(await client.ask(), Bank)
    assert_type(await audit.emit(Cash(Decimal(1))), None)
    await paid.put(Card("1"))
    means = await paid.get()
    match means:
        case Card(number=number):
            assert_type(number, str)
        case Cash(amount=amount):
            assert_type(amount, Decimal)
        case None:
            pass
        case _:
            assert_never(means)
    raised = limits.local(lambda known: {**known, "day": known["day"] * 2}, day_limit())
    assert_type(raised, Computation[Decimal])
    limit: Decimal = yield raised
    yield Return(limit)


@computation
async def day_limit() -> Effectful[Decimal]:
    known: dict[str, Decimal] = yield limits.ask()
    yield Return(known["day"])


# -- notes, chance -----------------------------------------------------------------------------------------------------


notes = Writer("api.notes", Card | Cash)

assert_type(notes, Writer[Card | Cash])


@computation
async def pays_by_card() -> Effectful[str]:
    yield notes.tell(Card("1"))
    yield Return("paid")


@computation
async def pays_and_forgets() -> Effectful[tuple[str, Any]]:
    means: str = yield pays_by_card()
    yield Return((means, forget))


def forget(told: list[Card | Cash]) -> list[Card | Cash]:
    return told[1:]


@computation
async def chances() -> Effectful[tuple[str, int]]:
    assert_type(notes.peek(), Effect[list[Card | Cash]])
    assert_type(notes.listen(pays_by_card()), Computation[tuple[str, list[Card | Cash]]])
    assert_type(notes.pass_(pays_and_forgets()), Computation[str])
    assert_type(notes.censor(pays_by_card(), lambda told: told[:0]), Computation[str])
    assert_type(notes.censor(pays_by_card(), forget), Computation[str])
    paid_by, told = await notes.listen(notes.pass_(pays_and_forgets()))
    assert_type(told, list[Card | Cash])
    assert_type(await notes.tell(Cash(Decimal(1))), None)

    assert_type(Random.random(), Effect[float])
    assert_type(Random.int(1, 6), Effect[int])
    assert_type(Random.choice([ORDER]), Effect[Order])
    assert_type(Random.choice("abc"), Effect[str])
    assert_type(Random.shuffle(range(3)), Effect[list[int]])
    assert_type(Random.sample((Card("1"), Card("2")), 1), Effect[list[Card]])
    assert_type(await Random.choice(told or [Card("2")]), Card | Cash)
    seeded: list[Handler] = [notes.handler(), Random.seeded("text"), Random.fixed(0.5, 0)]
    drawn: int = yield Random.int(len(seeded), 3)
    yield Return((paid_by, drawn))


# -- commands ----------------------------------------------------------------------------------------------------------


class Ship(Command[Card], frozen=True, tag=True):
    order: Order


class Inquire(Command[T], Generic[T], frozen=True):
    default: T


class Forget(Command[None], frozen=True, tag=True):
    pass


def ship(command: Ship) -> Card:
    return Card(command.order.id)


async def ship_async(command: Ship) -> Card:
    return ship(command)


@computation
async def ship_by_effects(command: Ship) -> Effectful[Card]:
    length: int = yield Length(command.order.id)
    yield Return(Card(str(length)))


async def dispatch(command: Command) -> object:
    assert_type(command, Command[Any])
    return None


async def dispatch_any(command: Command[Any]) -> Any:
    return command


def command_handlers() -> list[Handler]:
    return [
        Ship.handled_by(ship),
        Ship.handled_by(ship_async),
        Ship.handled_by(lambda command: Card(command.order.id)),
        Ship.always(Card("1")),
        Ship.handled_by(ship_by_effects),
        Command.handled_by(dispatch_any),
        Command.handled_by(dispatch),
        Inquire[Any].handled_by(lambda command: command.default),
    ]


@computation
async def commands() -> Effectful[Card]:
    assert_type(Ship(ORDER).execute(), Effect[Card])
    assert_type(Ship.execute(Ship(ORDER)), Effect[Card])
    executed: Effect[Card] = Command.execute(Ship(ORDER))
    assert_type(await Forget().execute(), None)
    assert_type(await Inquire(5).execute(), int)
    card: Card = yield executed
    yield Return(card)


# -- questions ---------------------------------------------------------------------------------------------------------


class Approve(Yield[Literal["yes", "no"]], frozen=True):
    order: Order


YesNo: TypeAlias = Literal["yes", "no"]
HOUR = timedelta(hours=1)


class HowToPay(Yield[Card | Cash | None], frozen=True):
    pass


def question_handlers() -> list[Handler]:
    return [
        Approve.always("yes"),
        Approve.handled_by(lambda question: "yes" if question.order.total < 5 else "no"),
        HowToPay.always(None),
        HowToPay.handled_by(lambda _: Card("1")),
    ]


@computation
async def questions() -> Effectful[Card | Cash | None]:
    assert_type(Approve(ORDER).named("approval"), Approve)
    assert_type(await Approve(ORDER).named("approval"), Literal["yes", "no"])
    assert_type(await HowToPay(), Card | Cash | None)
    anything: Any = yield Yield.of({"free": "form"})
    yield Return(Card(str(anything)))


# -- side by side, and time --------------------------------------------------------------------------------------------


@computation
async def alls() -> Effectful[tuple[Card | Cash, Decimal, int, str, bool, None]]:
    assert_type(Parallel.all(first([1])), Computation[tuple[int]])
    assert_type(Parallel.all(by_yield(ORDER), quote(ORDER)), Computation[tuple[Card | Cash, Decimal]])
    assert_type(Parallel.all(Length("a"), Approve(ORDER), Clock.sleep(HOUR)), Computation[tuple[int, YesNo, None]])
    assert_type(
        Parallel.all(Length("a"), Echo("b"), Echo(b"c"), quote(ORDER)), Computation[tuple[int, str, bytes, Decimal]]
    )
    assert_type(
        Parallel.all(Length("a"), Echo("b"), Echo(b"c"), quote(ORDER), Length("e")),
        Computation[tuple[int, str, bytes, Decimal, int]],
    )
    six = Parallel.all(
        by_await(ORDER), quote(ORDER), Length("four"), Echo("text"), first([True]), notes.tell(Card("1"))
    )
    assert_type(six, Computation[tuple[Card | Cash, Decimal, int, str, bool, None]])
    assert_type(await Parallel.all(by_yield(ORDER), Length("a")), tuple[Card | Cash, int])
    seven = Parallel.all(*[Length(text) for text in "abcdefg"])
    assert_type(seven, Computation[tuple[int, ...]])
    assert_type(Parallel.all(Length("a"), *[Length("b")]), Computation[tuple[int, ...]])
    result: tuple[Card | Cash, Decimal, int, str, bool, None] = yield six
    yield Return(result)


@computation
async def settled() -> Effectful[list[str]]:
    assert_type(Parallel.all(Length("a"), settle=True), Computation[tuple[int | Exception]])
    assert_type(Parallel.all(Length("a"), Echo("b"), settle=True), Computation[tuple[int | Exception, str | Exception]])
    assert_type(
        Parallel.all(Length("a"), Echo("b"), Echo(b"c"), settle=True),
        Computation[tuple[int | Exception, str | Exception, bytes | Exception]],
    )
    assert_type(
        Parallel.all(Length("a"), Echo("b"), Echo(b"c"), Length("d"), settle=True),
        Computation[tuple[int | Exception, str | Exception, bytes | Exception, int | Exception]],
    )
    assert_type(
        Parallel.all(Length("a"), Echo("b"), Echo(b"c"), Length("d"), Echo("e"), settle=True),
        Computation[tuple[int | Exception, str | Exception, bytes | Exception, int | Exception, str | Exception]],
    )
    assert_type(
        Parallel.all(Length("a"), Echo("b"), Echo(b"c"), Length("d"), Echo("e"), Length("f"), settle=True),
        Computation[
            tuple[
                int | Exception, str | Exception, bytes | Exception, int | Exception, str | Exception, int | Exception
            ]
        ],
    )
    assert_type(
        Parallel.all(*[Length(text) for text in "abcdefg"], settle=True), Computation[tuple[int | Exception, ...]]
    )
    assert_type(Parallel.all(Length("a"), Echo("b"), settle=False), Computation[tuple[int, str]])
    is_settled = ORDER.total > 0
    assert_type(Parallel.all(Length("a"), Length("b"), settle=is_settled), Computation[tuple[int | Exception, ...]])
    results = await Parallel.all(Length("four"), never_comes_back(), settle=True)
    told: list[str] = []
    for one in results:
        match one:
            case Exception():
                told.append(type(one).__name__)
            case int() | str():
                told.append(f"{one}")
            case _:
                assert_never(one)
    yield Return(told)


@computation
async def maps() -> Effectful[list[int]]:
    assert_type(Parallel.map(quote, [ORDER]), Computation[list[Decimal]])
    assert_type(Parallel.map(by_yield, (ORDER, ORDER), limit=8), Computation[list[Card | Cash]])
    assert_type(Parallel.map(quote, [ORDER], settle=True), Computation[list[Decimal | Exception]])
    assert_type(Parallel.map(quote, [ORDER], settle=bool(ORDER.id)), Computation[list[Decimal | Exception]])
    assert_type(Parallel.map(lambda order: by_yield(order, retries=0), [ORDER]), Computation[list[Card | Cash]])
    assert_type(await Parallel.map(Length, {"a": 1}), list[int])
    assert_type(Parallel.map(lambda number: Echo(number + 1), [3, 1, 2]), Computation[list[int]])
    numbers: list[int] = yield Parallel.map(Echo, [3, 1, 2], limit=2)
    yield Return(numbers)


@computation
async def races() -> Effectful[str]:
    assert_type(Parallel.race(a=Length("a"), b=first([1])), Computation[Won[int]])
    assert_type(Parallel.race(decided=Approve(ORDER), expired=Clock.sleep(HOUR)), Computation[Won[YesNo | None]])
    either: Computation[Won[Card | Cash]] = Parallel.race(card=first([Card("1")]), cash=first([Cash(Decimal(1))]))
    assert_type(await either, Won[Card | Cash])
    won = await Parallel.race(card=first([Card("1")]), expired=Clock.sleep(HOUR))
    assert_type(won, Won[Card | None])
    assert_type(won.name, str)
    assert_type(won.value, Card | None)
    yield Return(won.name)


@computation
async def times() -> Effectful[tuple[int, str]]:
    assert_type(Clock.sleep(HOUR), Effect[None])
    assert_type(await Clock.sleep(timedelta()), None)
    assert_type(with_timeout(by_yield(ORDER), HOUR), Computation[Card | Cash | TimedOut])
    assert_type(with_timeout(HowToPay(), HOUR), Computation[Card | Cash | None | TimedOut])
    assert_type(Approve(ORDER).within(HOUR), Effect[YesNo | TimedOut])
    assert_type(Approve(ORDER).named("approval").within(HOUR), Effect[YesNo | TimedOut])
    decision = await Approve(ORDER).within(timedelta())
    if isinstance(decision, TimedOut):
        assert_type(decision.due, datetime)
        decision = "no"
    assert_type(decision, YesNo)
    match await with_timeout(Length("four"), HOUR):
        case TimedOut():
            length = 0
        case length:
            assert_type(length, int)
    yield Return((length, decision))


# -- tasks, shared state -----------------------------------------------------------------------------------------------


stock_left = AtomicState("api.stock", int)
seats = AtomicState("api.seats", dict[str, Card | None])
paid_by = Channel("api.paid_by", Card | Cash, capacity=1)

assert_type(stock_left, AtomicState[int])
assert_type(seats, AtomicState[dict[str, Card | None]])
assert_type(paid_by, Channel[Card | Cash])


@computation
async def tasks() -> Effectful[tuple[int, str]]:
    assert_type(fork(by_yield(ORDER)), Effect[Task[Card | Cash]])
    assert_type(fork(HowToPay()), Effect[Task[Card | Cash | None]])
    counting = await fork(Length("four"))
    assert_type(counting, Task[int])
    assert_type(counting.id, str)
    assert_type(join(counting), Effect[int])
    assert_type(cancel(counting), Effect[None])
    length: int = yield join(counting)
    never = await fork(Clock.sleep(HOUR))
    yield cancel(never)
    try:
        yield join(never)
    except TaskCancelledError as error:
        assert_type(error.task, str)
        yield Return((length, error.computation))


@computation
async def shared() -> Effectful[list[int]]:
    assert_type(stock_left.get(), Effect[int])
    assert_type(stock_left.put(4), Effect[None])
    assert_type(stock_left.modify(lambda left: left - 1), Effect[int])
    assert_type(stock_left.compare_and_set(4, 3), Effect[bool])
    assert_type(await seats.get(), dict[str, Card | None])
    assert_type(await seats.modify(lambda taken: {**taken, "1a": Card("1")}), dict[str, Card | None])
    first_left, second_left = await Parallel.all(
        stock_left.modify(lambda left: left - 1), stock_left.modify(lambda left: left - 1)
    )
    yield Return(sorted([first_left, second_left]))


@computation
async def channels() -> Effectful[Card | Cash]:
    assert_type(paid_by.send(Card("1")), Effect[None])
    assert_type(paid_by.receive(), Effect[Card | Cash])
    assert_type(paid_by.close(), Effect[None])
    means, _ = await Parallel.all(paid_by.receive(), paid_by.send(Card("7")))
    assert_type(means, Card | Cash)
    yield paid_by.close()
    try:
        yield paid_by.receive()
    except ChannelClosedError as error:
        assert_type(error.channel, str)
        yield Return(means)


# -- loops, brackets, scopes -------------------------------------------------------------------------------------------


@computation
async def loops() -> Effectful[int]:
    assert_type(mark_loop("plain"), Effect[None])
    assert_type(mark_loop("plain", key="k"), Effect[None])
    assert_type(mark_loop("carry", list[int], carry=[]), Effect[list[int]])
    assert_type(mark_loop("union", Card | None, carry=None, key="k"), Effect[Card | None])
    total = 0
    while total < 3:
        total = (await mark_loop("count", int, carry=total)) + 1
    yield Return(total)


@computation
async def scopes() -> Effectful[str]:
    inner = by_yield(ORDER).handle(Length.always(4)).ensure(audit.emit(Card("done"))).ensure(returns_nothing())
    assert_type(inner, Computation[Card | Cash])
    reserved = bracket(
        quote(ORDER),
        lambda price: first([str(price)]),
        lambda price: audit.emit(Cash(price)),
    )
    assert_type(reserved, Computation[str])
    nested = bracket(day_limit(), shop_open, lambda _: returns_nothing())
    assert_type(nested, Computation[str])
    yield inner
    text: str = yield reserved
    more: str = yield nested
    yield Return(text + more)


def shop_open(price: Decimal) -> Computation[str]:
    return Shop(str(price)).open(8)


# -- handlers of one's own ---------------------------------------------------------------------------------------------


class Counting(Handler):
    label = "Counting"

    def install(self) -> Installed:
        cell = Cell("Counting", list[str], [])
        assert_type(cell, Cell[list[str]])

        def answer(effect: Length) -> int:
            return len(cell.value) + len(effect.text)

        return Installed({Length: answer}, [cell])


@asynccontextmanager
async def bank_account() -> AsyncGenerator[Handler]:
    yield Payments.handler(Bank())


@asynccontextmanager
async def everything() -> AsyncGenerator[list[Handler]]:
    yield [*keys(), *port_handlers(), *own_effects()]


def lifetimes() -> list[Handler]:
    return [lifetime(everything), lifetime(bank_account), lifetime(partial(bank_account), spans_suspension=False)]


async def log_calls(request: Request, perform: Perform) -> Any:
    assert_type(request.id, str)
    assert_type(request.effect.__kind__, Kind)
    return await perform(request)


class Timed:
    async def __call__(self, request: Request, perform: Perform, /) -> object:
        return await perform(request)


def passes_on(request: Request, perform: Perform, /) -> Awaitable[Any]:
    return perform(request)


def saw(observation: Observation) -> None:
    assert_type(observation.replayed, bool)
    assert_type(observation.error, BaseException | None)
    assert_type(observation.request, Request)


INTERCEPTORS: list[Interceptor] = [log_calls, Timed(), passes_on]


# -- runs and outcomes -------------------------------------------------------------------------------------------------


@computation
async def approved() -> Effectful[bool]:
    decision = yield Approve(ORDER).named("approval")
    yield Return(decision == "yes")


async def verbs() -> list[Outcome[bool]]:
    handlers = keys()
    started = await start(
        approved(),
        *handlers,
        id="run-1",
        seed="s",
        intercept=INTERCEPTORS,
        observe=[saw],
        effects=[State, Clock],
        prune_loops=False,
        state_keys=["State[api.cart]"],
        prune_branches=True,
        linger=timedelta(seconds=5),
        into=Log(),
    )
    assert_type(started, Outcome[bool])
    stopped = await resume(approved(), started.log, *handlers)
    assert_type(stopped, Outcome[bool])
    answered = await resume(approved(), stopped.log, *handlers, answer="yes", to=stopped.log.waits[-1])
    assert_type(answered, Outcome[bool])
    ref = stopped.log.waits[0].ref
    assert_type(await resume(approved(), stopped.log, *handlers, answers={ref: "yes"}), Outcome[bool])
    again = await resume(approved(), answered.log, *handlers, allow_divergence=True, observe=[saw])
    assert_type(again, Outcome[bool])
    replayed = await replay(approved(), answered.log, *handlers, observe=[saw])
    assert_type(replayed, Outcome[bool])

    failed = await start(never_comes_back())
    assert_type(failed, Outcome[str])
    assert_type(await rerun(never_comes_back(), failed.log, force=True), Outcome[str])

    assert_type(await run(approved(), Approve.always("no")), bool)
    assert_type(await run(first([1]), seed="s", intercept=INTERCEPTORS, observe=[saw]), int)
    cold = await always_cold(approved(), *handlers, answer=lambda question: "yes")
    assert_type(cold, Outcome[bool])
    return [started, stopped, answered, again, replayed, cold]


async def session(log: Log | None = None) -> str:
    async with open_session(questions(), Approve.always("yes"), log=log, observe=[saw]) as session:
        assert_type(session, Session[Card | Cash | None])
        outcome = await session.outcome()
        assert_type(outcome, Outcome[Card | Cash | None])
        if isinstance(outcome, Suspended) and outcome.wait is not None:
            assert_type(outcome.wait, Wait)
            await session.answer(None, to=outcome.wait.ref)
        assert_type(session.log, Log)
        assert_type(await session.cancel("no longer needed"), Outcome[Card | Cash | None])
    return tell(outcome)


def tell(outcome: Outcome[Card | Cash | None]) -> str:
    match outcome:
        case Completed(value=value):
            assert_type(value, Card | Cash | None)
            return "done"
        case Suspended():
            assert_type(outcome.wait, Wait | None)
            assert_type(outcome.waits, tuple[Wait, ...])
            assert_type(outcome.wake_at, datetime | None)
            return "waits"
        case Failed(error=error):
            assert_type(error, Exception)
            return "failed"
        case Cancelled(reason=reason, refused=refused):
            assert_type(refused, tuple[str, ...])
            return reason
        case _:
            assert_never(outcome)


async def deployment() -> DivergenceError:
    try:
        await resume(never_comes_back(), (await start(approved())).log)
    except DivergenceError as error:
        assert_type(error.log, Log)
        assert_type(error.matched, tuple[str, ...])
        return error
    raise AssertionError


def read(outcome: Outcome[Card | Cash]) -> None:
    assert_type(outcome.log, Log)
    assert_type(outcome.log.to_json(), bytes)
    assert_type(outcome.log.waits, list[Wait])
    assert_type(outcome.state(paid), Card | Cash | None)
    assert_type(outcome.state(cart), list[Card | Cash])
    assert_type(outcome.state(stock_left), int)
    assert_type(outcome.output(audit), list[Card | Cash])
    assert_type(outcome.output(notes), list[Card | Cash])
    assert_type(outcome.value, Card | Cash)
    if isinstance(outcome, Completed):
        assert_type(outcome.value, Card | Cash)


def doubles() -> list[Handler]:
    clock = VirtualClock()
    clock.advance(timedelta(days=1))
    return [clock.handler(), Script([(Length("four"), 4), (Payments.charge(ORDER), Declined(1))])]


async def by_the_fixture(always_cold: AlwaysCold) -> None:
    cold = await always_cold(approved(), *keys(), answer=lambda question: "yes", observe=[saw])
    assert_type(cold, Outcome[bool])


# -- variance ----------------------------------------------------------------------------------------------------------


def wider(
    comp: Computation[Card], effect: Effect[bool], outcome: Outcome[Card]
) -> tuple[Computation[Card | Cash], Effect[int], Outcome[Card | Cash]]:
    """What gives less can stand where more is expected."""
    return comp, effect, outcome


def needs_cards(key: State[Card], comp: Computation[Card]) -> Computation[Card]:
    """Functions over keys and computations need no `Any`."""
    return comp.handle(key.handler(Card("1")))
