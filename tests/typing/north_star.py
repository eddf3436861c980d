"""Section 3 of the design, as a file: executed by test_typing.py, checked by mypy and pyright as users check theirs."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol, assert_type

import httpx
import msgspec
from msgspec import Struct

from skuld_async import (
    Clock,
    Effectful,
    EventAccumulator,
    Handler,
    Log,
    Outcome,
    Parallel,
    Port,
    Return,
    Won,
    Yield,
    computation,
    mark_loop,
    operation,
    port,
    resume,
    start,
)
from skuld_async.durable import Accepted, OpenWait, Page, Run, RunEvent, Runtime, RunView
from skuld_async.stores.sqlite import SQLiteStore

# -- an approval -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Purchase:
    number: int
    employee: str
    amount: Decimal


class ValidPurchase(Struct, frozen=True):
    id: str
    employee: str
    amount: Decimal


class Receipt(Struct, frozen=True, tag=True):
    id: str
    booking: str


class Refusal(Struct, frozen=True, tag=True):
    id: str


class PurchaseApproved(Struct, frozen=True, tag=True):
    id: str


class PurchaseRejected(Struct, frozen=True, tag=True):
    id: str


class ApprovalNeeded(Yield[Literal["approved", "rejected"]], frozen=True):
    """A question: data, and the type of its answer."""

    purchase: ValidPurchase


class Validator(Port, Protocol):
    """A contract: what is needed from outside."""

    @operation
    async def validate(self, purchase: Purchase) -> ValidPurchase: ...


class Actions(Port, Protocol):
    @operation
    async def execute(self, purchase: ValidPurchase) -> Receipt: ...


events = EventAccumulator("approval.events", PurchaseApproved | PurchaseRejected)


@computation
async def approval(purchase: Purchase) -> Effectful[Receipt | Refusal]:
    valid = yield Validator.validate(purchase)
    decision = yield ApprovalNeeded(valid)
    if decision == "approved":
        receipt = yield Actions.execute(valid)
        yield events.emit(PurchaseApproved(valid.id))
        yield Return(receipt)
    else:
        yield events.emit(PurchaseRejected(valid.id))
        yield Return(Refusal(valid.id))


@computation(name="approval.awaited")
async def approval_awaited(purchase: Purchase) -> Receipt | Refusal:
    """The same workflow by `await`, where every answer has its exact type."""
    valid = await Validator.validate(purchase)
    assert_type(valid, ValidPurchase)
    decision = await ApprovalNeeded(valid)
    assert_type(decision, Literal["approved", "rejected"])
    if decision == "rejected":
        await events.emit(PurchaseRejected(valid.id))
        return Refusal(valid.id)
    receipt = await Actions.execute(valid)
    assert_type(receipt, Receipt)
    await events.emit(PurchaseApproved(valid.id))
    return receipt


class HttpValidator:
    """An implementation is any object with the contract's methods."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    async def validate(self, purchase: Purchase) -> ValidPurchase:
        response = await self.client.post("/validate", content=msgspec.json.encode(purchase))
        return msgspec.json.decode(response.raise_for_status().content, type=ValidPurchase)


class Bookkeeping:
    def __init__(self) -> None:
        self.booked: list[str] = []

    async def execute(self, purchase: ValidPurchase) -> Receipt:
        self.booked.append(purchase.id)
        return Receipt(purchase.id, f"booking-{len(self.booked)}")


class FakeValidator:
    """Methods of an implementation may be sync."""

    def validate(self, purchase: Purchase) -> ValidPurchase:
        return ValidPurchase(f"req-{purchase.number}", purchase.employee, purchase.amount)


def real_handlers(client: httpx.AsyncClient, actions: Bookkeeping) -> list[Handler]:
    return [Validator.handler(HttpValidator(client)), Actions.handler(actions), events.handler()]


def double_handlers(receipt: Receipt) -> list[Handler]:
    """In a test the same computation meets other handlers; nothing else changes."""
    return [Validator.handler(FakeValidator()), Actions.execute.always(receipt), events.handler()]


async def submit(purchase: Purchase, file: Path, handlers: list[Handler]) -> Outcome[Receipt | Refusal]:
    """One process: up to the question, and into a file."""
    outcome = await start(approval(purchase), *handlers)
    file.write_bytes(outcome.log.to_json())
    return outcome


async def decide(
    purchase: Purchase, file: Path, handlers: list[Handler], decision: Literal["approved", "rejected"]
) -> tuple[Receipt | Refusal, list[PurchaseApproved | PurchaseRejected]]:
    """Another process, another day: from the file to the result."""
    log = Log.from_json(file.read_bytes())
    outcome = await resume(approval(purchase), log, *handlers, answer=decision)
    file.write_bytes(outcome.log.to_json())
    assert_type(outcome.value, Receipt | Refusal)
    assert_type(outcome.output(events), list[PurchaseApproved | PurchaseRejected])
    return outcome.value, outcome.output(events)


# -- a function as a port ----------------------------------------------------------------------------------------------


class Supplier(Struct, frozen=True):
    name: str
    discount: Decimal


class Price(Struct, frozen=True):
    supplier: str
    amount: Decimal


@port
async def quote(s: Supplier) -> Price:
    return Price(s.name, 100 - s.discount)


@computation
async def cheapest(suppliers: list[Supplier]) -> Effectful[Price]:
    prices: list[Price] = []
    for supplier in suppliers:
        price = yield quote(supplier)
        prices.append(price)
    yield Return(min(prices, key=lambda price: price.amount))


# -- side by side ------------------------------------------------------------------------------------------------------


class Order(Struct, frozen=True):
    number: int
    amount: Decimal


class Placed(Struct, frozen=True, tag=True):
    order: int
    price: Price


class Refused(Struct, frozen=True, tag=True):
    order: int
    why: str


class ManagerDecision(Yield[Literal["buy", "leave"]], frozen=True):
    order: Order


@port
async def check_fraud(order: Order) -> bool:
    return order.number < 0


@port
async def check_credit(order: Order) -> Decimal:
    return Decimal(1000)


@computation
async def place(order: Order, suppliers: list[Supplier]) -> Effectful[Placed | Refused]:
    fraud, credit = yield Parallel.all(check_fraud(order), check_credit(order))
    if fraud or credit < order.amount:
        yield Return(Refused(order.number, "checks"))
        return
    won = yield Parallel.race(decided=ManagerDecision(order), expired=Clock.sleep(timedelta(days=3)))
    if won.name == "expired" or won.value == "leave":
        yield Return(Refused(order.number, won.name))
        return
    prices = yield Parallel.map(quote, suppliers, limit=8)
    yield Return(Placed(order.number, min(prices, key=lambda price: price.amount)))


@computation(name="place.awaited")
async def place_awaited(order: Order, suppliers: list[Supplier]) -> Placed | Refused:
    """The same workflow by `await`, where every answer has its exact type."""
    fraud, credit = await Parallel.all(check_fraud(order), check_credit(order))
    assert_type(fraud, bool)
    assert_type(credit, Decimal)
    if fraud or credit < order.amount:
        return Refused(order.number, "checks")
    won = await Parallel.race(decided=ManagerDecision(order), expired=Clock.sleep(timedelta(days=3)))
    assert_type(won, Won[Literal["buy", "leave"] | None])
    if won.name == "expired" or won.value == "leave":
        return Refused(order.number, won.name)
    prices = await Parallel.map(quote, suppliers, limit=8)
    assert_type(prices, list[Price])
    return Placed(order.number, min(prices, key=lambda price: price.amount))


# -- a conversation that lasts for months and keeps a log of one turn --------------------------------------------------

WINDOW = 4


class Message(Struct, frozen=True):
    role: Literal["user", "assistant"]
    text: str


class Reply(Struct, frozen=True):
    text: str
    done: bool = False


class UserTurn(Yield[str], frozen=True):
    last: list[Message]


class LLM(Port, Protocol):
    @operation
    async def chat(self, messages: list[Message]) -> Reply: ...


@computation
async def conversation() -> Effectful[Reply]:
    messages: list[Message] = []
    while True:
        messages = yield mark_loop("conversation", list[Message], carry=messages)
        text = yield UserTurn(messages[-1:])
        reply = yield LLM.chat([*messages, Message("user", text)])
        messages = [*messages, Message("user", text), Message("assistant", reply.text)][-WINDOW:]
        if reply.done:
            yield Return(reply)
            return


class Parrot:
    """A model that is small enough for a test: it repeats, counts what it was shown, and knows how to say goodbye."""

    def __init__(self) -> None:
        self.calls = 0

    async def chat(self, messages: list[Message]) -> Reply:
        self.calls += 1
        said = messages[-1].text
        return Reply(f"{said}! ({len(messages)})", done=said == "bye")


async def turn(file: Path, parrot: Parrot, text: str | None) -> Outcome[Reply]:
    """One turn, cold: read the log, answer, run to the next question, write the log."""
    if text is None:
        outcome = await start(conversation(), LLM.handler(parrot))
    else:
        log = Log.from_json(file.read_bytes())
        outcome = await resume(conversation(), log, LLM.handler(parrot), answer=text)
    file.write_bytes(outcome.log.to_json())
    assert_type(outcome, Outcome[Reply])
    return outcome


# -- inside a web app, with recovery, timers and an inbox of open questions --------------------------------------------


def make_runtime(file: Path, handlers: list[Handler]) -> Runtime:
    return Runtime(SQLiteStore(file), [approval, conversation], handlers)


async def put_purchase(runtime: Runtime, purchase: Purchase) -> bytes:
    """The body of a route: idempotent by the number of the purchase."""
    run = await runtime.start(approval(purchase), id=f"req-{purchase.number}")
    assert_type(run, Run[Receipt | Refusal])
    settled = await run.settled(timeout=5)
    assert_type(settled, RunView)
    return settled.to_json()


async def post_answer(runtime: Runtime, token: str, body: bytes) -> bytes:
    """The body of another one: checked before it is consumed; single-use."""
    accepted = await runtime.answer_json(token, body, by="manager@example.com")
    assert_type(accepted, Accepted)
    return accepted.to_json()


async def inbox(runtime: Runtime) -> list[str]:
    page = await runtime.waits(older_than=timedelta(0), limit=10)
    assert_type(page, Page[OpenWait])
    return [wait.token for wait in page.items]


async def history(runtime: Runtime, purchase: Purchase) -> tuple[Receipt | Refusal, list[str]]:
    run = await runtime.start(approval(purchase), id=f"req-{purchase.number}")
    value = await run.result(timeout=timedelta(seconds=5))
    assert_type(value, Receipt | Refusal)
    told: list[str] = []
    async for event in run.watch():
        assert_type(event, RunEvent)
        told.append(event.kind)
    return value, told
