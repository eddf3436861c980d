"""What both checkers must report. Each expected error carries the comment of either checker; never executed.

mypy (``warn_unused_ignores``) and pyright (``reportUnnecessaryTypeIgnoreComment``) report each comment without an error
as well as each error without a comment: this file passes when exactly the marked lines are wrong, as they say.
"""

from collections.abc import AsyncGenerator
from decimal import Decimal
from typing import Any, assert_never

import skuld_async
from skuld_async import (
    AtomicState,
    Cell,
    Channel,
    Clock,
    Command,
    Completed,
    Computation,
    Effect,
    Effectful,
    Failed,
    Installed,
    Log,
    Outcome,
    Parallel,
    Perform,
    Random,
    Reader,
    Request,
    Return,
    Session,
    State,
    Suspended,
    Task,
    Throw,
    Writer,
    bracket,
    cancel,
    computation,
    fork,
    join,
    lifetime,
    mark_loop,
    operation,
    port,
    replay,
    rerun,
    resume,
    run,
    start,
    with_timeout,
)
from skuld_async.testing import Script, VirtualClock

from .api import (
    HOUR,
    ORDER,
    Approve,
    Bank,
    Card,
    Cash,
    Counting,
    Declined,
    Length,
    Payments,
    Ship,
    Shop,
    audit,
    by_yield,
    cart,
    day_limit,
    first,
    limits,
    mode,
    notes,
    paid,
    paid_by,
    pays_by_card,
    quote,
    ship_by_effects,
    stock_left,
)

# Nothing but the public names is there, although they are imported when they are first used.
skuld_async.Accumulator = State  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]


# -- effects and questions ---------------------------------------------------------------------------------------------


class Unfrozen(Effect[int]):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """Subclasses repeat `frozen=True`."""


def effects(effect: Length) -> None:
    effect.text = "changed"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    Length()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Length(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Length.always("four")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Length.handled_by(lambda effect: effect.text)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    Length.handled_by(lambda: 4)  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    Length.handled_by(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Approve.always("maybe")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Approve.always(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Approve.handled_by(lambda _: "maybe")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    Approve("order")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Approve(ORDER).named(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Throw("reason")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Declined("seven")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Declined(7, why="no funds")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Declined()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def length_as_text(effect: Length) -> str:
    return effect.text


async def approve_card(effect: Card) -> int:
    return len(effect.number)


def other_handlers() -> None:
    Length.handled_by(length_as_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Length.handled_by(approve_card)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- bodies ------------------------------------------------------------------------------------------------------------


async def no_computation() -> int:
    return 4


@computation
async def yields() -> Effectful[int]:
    yield 5  # type: ignore[misc]  # pyright: ignore[reportReturnType]
    yield "text"  # type: ignore[misc]  # pyright: ignore[reportReturnType]
    yield Length  # type: ignore[misc]  # pyright: ignore[reportReturnType]
    yield no_computation()  # type: ignore[misc]  # pyright: ignore[reportReturnType]
    yield by_yield  # type: ignore[misc]  # pyright: ignore[reportReturnType]
    yield Return("text")  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]
    yield Return(None)  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]


@computation
async def native() -> int:
    _text: str = await Length("four")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _card: Card = await by_yield(ORDER)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await 5  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    return await first(["text"])  # type: ignore[list-item]  # pyright: ignore[reportReturnType]


@computation
async def other_order() -> Effectful[str]:
    order = await first([ORDER])
    yield Return(order)  # type: ignore[arg-type]  # pyright: ignore[reportReturnType]


def sync() -> int:
    return 5


def computations() -> None:
    computation(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    computation(5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    computation(version=2)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    computation(title="five")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    computation(name="five")(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
    by_yield()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    by_yield("o-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_yield(ORDER, 3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    by_yield(ORDER, attempts=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Shop("corner").open()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Shop("corner").open("eight")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _narrow: Computation[Card] = by_yield(ORDER)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    by_yield(ORDER).handle(Length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_yield(ORDER).handle([Length.always(4)])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_yield(ORDER).ensure(lambda: audit.emit(Card("1")))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    by_yield(ORDER).name = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# -- ports -------------------------------------------------------------------------------------------------------------


def ports() -> None:
    operation(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    operation(raises=(5,))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    port(sync)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    port(raises=(5,))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    port(retry=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    quote(ORDER).retried(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    port(sig=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Payments.charge("o-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Payments.charge()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Payments.charge(ORDER, "note")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Payments.charge(ORDER, memo="note")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Payments.charge.always(Cash(Decimal(1)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Payments.charge.handled_by(lambda: Card("1"))  # type: ignore[arg-type, misc]  # pyright: ignore[reportArgumentType]
    Payments.charge.handled_by(no_computation)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    quote("o-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    quote.always("cheap")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    quote.handled_by(lambda order: order.id)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    Payments()  # type: ignore[misc]  # pyright: ignore[reportAbstractUsage]
    _refund: Effect[Card] = Payments.refund(Card("1"))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


# -- state, readers, events --------------------------------------------------------------------------------------------


State("five", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Reader("limits")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
limits_of_text: State[str] = State("text", int)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]


def keys() -> None:
    paid.put("card")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mode.put("slow")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    mode.handler("slow")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cart.put([ORDER])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    cart.modify(lambda held: held[0])  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    cart.handler(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    limits.handler({"day": "five"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    limits.local(lambda known: known["day"], day_limit())  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    limits.local(lambda known: known, day_limit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    audit.emit(ORDER)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    audit.emit("card")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    audit.handler([])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def read() -> None:
    _held: list[Cash] = await cart.get()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _day: str = (await limits.ask())["day"]  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


# -- notes, chance, commands -------------------------------------------------------------------------------------------


Writer("five", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class UnfrozenCommand(Command[int]):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    """Subclasses repeat `frozen=True`."""


def writers() -> None:
    notes.tell("card")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    notes.listen(pays_by_card)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    notes.pass_(pays_by_card())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    notes.censor(pays_by_card(), lambda told: told[0])  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    notes.censor(pays_by_card())  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    notes.handler([])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def chances() -> None:
    Random.int(6)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Random.int(1, "6")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Random.choice(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Random.choice({"a": 1})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Random.shuffle({"a"})  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Random.sample(["a"])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Random.seeded(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Random.fixed("half")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _text: Effect[str] = Random.choice([1, 2])  # type: ignore[list-item]  # pyright: ignore[reportAssignmentType]


@computation
async def executes(command: Ship) -> Effectful[Card]:
    yield command  # type: ignore[misc]  # pyright: ignore[reportReturnType]
    await command  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    _cash: Cash = await command.execute()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def commands() -> None:
    Ship("o-1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Ship(ORDER).order = ORDER  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    Ship.always(Cash(Decimal(1)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Ship.handled_by(lambda command: command.order)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    Ship.handled_by(by_yield)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Length.handled_by(ship_by_effects)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    quote.handled_by(by_yield)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- side by side, and time --------------------------------------------------------------------------------------------


def branches() -> None:
    Parallel.all(Length)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Parallel.all(Length("a"), by_yield)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Parallel.all(Length("a"), 5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Parallel.all(Length("a"), no_computation())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Parallel.all([Length("a"), Length("b")])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Parallel.all(Length("a"), Length("b"), limit=1)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Parallel.all(Length("a"), settle=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    Parallel.map(Length, [4])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Parallel.map(Length("a"), ["a"])  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Parallel.map(quote, ORDER)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Parallel.map(no_computation, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Parallel.map(lambda text: text.upper(), ["a"])  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    Parallel.map(Length, ["a"], limit="all")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    Parallel.map(Length, ["a"], 8)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    Parallel.race(Length("a"), Length("b"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Parallel.race(a=Length("a"), b=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Parallel.race(a=Length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def joined() -> None:
    _length: int = (await Parallel.all(Length("a"), quote(ORDER)))[1]  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    (await Parallel.all(Length("a"), quote(ORDER)))[2]  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    _settled: tuple[int, Decimal] = await Parallel.all(Length("a"), quote(ORDER), settle=True)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _lengths: list[str] = await Parallel.map(Length, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    _won: int = await Parallel.race(a=Length("a"))  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _card: Card = (await Parallel.race(a=by_yield(ORDER))).value  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    (await Parallel.race(a=Length("a"))).name = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def times() -> None:
    with_timeout(Length, HOUR)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_timeout(Length("a"), 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with_timeout(Length("a"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Clock.sleep(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Approve(ORDER).within(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _question: Approve = Approve(ORDER).within(HOUR)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _length: int = await with_timeout(Length("a"), HOUR)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _decision: str = await Approve(ORDER).within(HOUR)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


async def tasks(task: Task[int]) -> None:
    fork(Length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fork(no_computation())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fork(Length("a"), Length("b"))  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    join(Length("a"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    join("0/3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cancel(fork(Length("a")))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _task: Task[str] = await fork(Length("a"))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    _text: str = await join(task)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]


AtomicState("five", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def shared() -> None:
    stock_left.put("four")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stock_left.modify(lambda left: f"{left}")  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    stock_left.compare_and_set(4)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    stock_left.compare_and_set("four", 4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    stock_left.handler(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _text: str = await stock_left.get()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _left: str = await stock_left.compare_and_set(4, 3)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


Channel("five", 5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
Channel("five", int, 5)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def channels() -> None:
    paid_by.send("card")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    paid_by.receive(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    paid_by.handler([])  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    _card: Card = await paid_by.receive()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


# -- loops, brackets, handlers -----------------------------------------------------------------------------------------


def loops() -> None:
    mark_loop("count", int)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    mark_loop("count", carry=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    mark_loop("count", 5, carry=5)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    _text: Effect[str] = mark_loop("count", int, carry=3)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    _count: Effect[int] = mark_loop("count", int, carry="three")  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]


def brackets() -> None:
    bracket(quote(ORDER), lambda price: price, lambda price: audit.emit(Cash(price)))  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    bracket(quote(ORDER), lambda price: first([price]), lambda price: None)  # type: ignore[arg-type, return-value]  # pyright: ignore[reportArgumentType]
    bracket(quote(ORDER), by_yield, lambda price: audit.emit(Cash(price)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    bracket(quote, lambda price: first([price]), lambda price: audit.emit(Cash(price)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def no_context_manager() -> AsyncGenerator[Counting]:
    yield Counting()


def handlers() -> None:
    lifetime(no_context_manager)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    lifetime(Counting)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Installed({Length: 4})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    Installed([Length])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _cell: Cell[int] = Cell("cell", int, "4")  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]


# -- runs --------------------------------------------------------------------------------------------------------------


async def too_much(request: Request, perform: Perform, more: int) -> Any:
    return await perform(request)


def not_awaitable(request: Request, perform: Perform) -> int:
    return 4


def observes_request(request: Request) -> None: ...


async def verbs(log: Log) -> None:
    await run(by_yield)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run(no_computation())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run(Length("four"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run(by_yield(ORDER), Length)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run(by_yield(ORDER), Bank())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run(by_yield(ORDER), [Length.always(4)])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await run(by_yield(ORDER), Length("four"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), intercept=[too_much])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), intercept=[not_awaitable])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), intercept=too_much)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), observe=[observes_request])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), prune_loop=False)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await start(by_yield(ORDER), state_keys=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), into=b"")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), id=42)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await resume(by_yield(ORDER), answer="yes")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await resume(by_yield(ORDER), log.to_json())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await resume(by_yield(ORDER), "req-42.json", answer="yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await resume(by_yield(ORDER), log, answers=["yes"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), prune_branches="all")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await start(by_yield(ORDER), linger=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await resume(by_yield(ORDER), log, answer="yes", to=5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await resume(by_yield(ORDER), log, "yes")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await replay(by_yield(ORDER), log.entries)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rerun(by_yield(ORDER), log, forced=True)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    Log.from_json(log)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Log.from_msgpack("text")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _cards: Outcome[Card] = await start(by_yield(ORDER))  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]


def outcomes(outcome: Outcome[Card | Cash]) -> None:
    _cards: list[Card] = outcome.output(audit)  # type: ignore[arg-type]  # pyright: ignore[reportAssignmentType]
    _card: Card = outcome.value  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    outcome.log = Log()  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    outcome.state(audit)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def outputs(outcome: Outcome[Card | Cash]) -> None:
    outcome.output(cart)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def states(outcome: Outcome[Card | Cash]) -> None:
    outcome.state("State[api.cart]")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def matches(outcome: Outcome[Card | Cash]) -> None:
    match outcome:
        case Completed() | Failed():
            pass
        case Suspended():
            pass
        case _:
            assert_never(outcome)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def sessions(session: Session[int]) -> None:
    await session.answer()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await session.answer(4, to=4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await session.cancel(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    _text: Outcome[str] = await session.outcome()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def doubles() -> None:
    Script([(4, Length("four"))])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    Script(Length("four"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    VirtualClock(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    VirtualClock().advance(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
