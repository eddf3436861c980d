"""5.9 A computation as a handler: requested from the handler's frame, logged under the id of the effect it answers."""

import functools
from dataclasses import dataclass
from typing import Any, Protocol

import pytest

from skuld_async import (
    Completed,
    DeclarationError,
    Effect,
    Effectful,
    Handler,
    Log,
    Observation,
    Outcome,
    Port,
    Return,
    State,
    Suspended,
    UnawaitedAnswerError,
    Yield,
    computation,
    mark_loop,
    operation,
    port,
    replay,
    resume,
    run,
    start,
)
from skuld_async.testing import always_cold

from .parts import Charge, Refund

total = State("handled.total", int)


class Buy(Effect[str], frozen=True):
    item: str


class Ask(Yield[str], frozen=True):
    pass


@computation
async def buy(effect: Buy) -> Effectful[str]:
    receipt = yield Charge(len(effect.item))
    yield total.modify(lambda sum_: sum_ + 1)
    yield Return(f"{effect.item} {receipt}")


@computation
async def buy_natively(effect: Buy) -> str:
    receipt = await Charge(len(effect.item))
    await total.modify(lambda sum_: sum_ + 1)
    return f"{effect.item} {receipt}"


@computation
async def buy_for(who: str, effect: Buy) -> Effectful[str]:
    yield Return(f"{who} {(yield buy(effect))}")


@dataclass
class Buyer:
    name: str

    @computation
    async def buy(self, effect: Buy) -> Effectful[str]:
        yield Return(f"{self.name} {(yield buy(effect))}")


@computation
async def errands() -> Effectful[list[str]]:
    yield Return([(yield Buy("bread")), (await Buy("milk")), (yield Charge(9))])


def stored(outcome: Outcome[Any]) -> Log:
    return Log.from_msgpack(Log.from_json(outcome.log.to_json()).to_msgpack())


HANDLERS = pytest.mark.parametrize(
    ("handler", "prefix"),
    [
        (buy, ""),
        (buy_natively, ""),
        (functools.partial(buy_for, "ada"), "ada "),
        (functools.partial(functools.partial(buy_for), "ada"), "ada "),
        (Buyer("bob").buy, "bob "),
        (functools.partial(Buyer.buy, Buyer("eve")), "eve "),
    ],
    ids=["generator", "coroutine", "partial", "partial-of-partial", "method", "partial-method"],
)


@HANDLERS
async def test_a_computation_is_a_handler(handler: Any, prefix: str) -> None:
    """5.9 `handled_by` takes a computation; what it requests sees the scope in which it was installed."""
    comp = errands().handle(Charge.always("inner"))

    answers = await run(comp, total.handler(0), Charge.always("outer"), Buy.handled_by(handler))

    assert answers == [f"{prefix}bread outer", f"{prefix}milk outer", "inner"]


@HANDLERS
async def test_what_it_requests_is_logged_under_the_effect(handler: Any, prefix: str) -> None:
    """5.9 Its entries live under the id of the effect; its local ones are performed again, its external ones never."""

    @computation
    async def body() -> Effectful[str]:
        bought = yield Buy("bread")
        yield Ask()
        yield Return(bought)

    scope = [total.handler(0), Buy.handled_by(handler)]
    first = await start(body(), Charge.always("charged"), *scope)
    entries = [entry.id for entry in first.log.entries]
    assert (entries[0], entries[-1]) == ("0/1", "0/2")
    assert len(entries) == 4
    assert all(entry.startswith("0/1/") for entry in entries[1:3])

    last = await resume(body(), stored(first), Charge.handled_by(refuse), *scope, answer="go")
    assert isinstance(last, Completed)
    assert (last.value, last.state(total)) == (f"{prefix}bread charged", 1)


def refuse(_effect: Charge) -> str:
    raise AssertionError


async def test_it_may_suspend_and_loop_in_the_middle() -> None:
    """5.9, 6.10, 7.1 Suspended in a loop of its own, it goes on in that iteration."""
    charged: list[int] = []

    def charge(effect: Charge) -> str:
        charged.append(effect.cents)
        return "charged"

    @computation
    async def haggle(_effect: Buy) -> Effectful[str]:
        offers: list[str] = []
        while len(offers) < 3:
            offers = yield mark_loop("offers", list[str], carry=offers)
            yield Charge(len(offers))
            offer = yield Ask()
            yield total.modify(lambda sum_: sum_ + 1)
            offers = [*offers, offer]
        yield Return(" ".join(offers))

    @computation
    async def body() -> Effectful[tuple[str, int]]:
        bought = yield Buy("bread")
        yield Return((bought, (yield total.get())))

    scope = [total.handler(0), Charge.handled_by(charge), Buy.handled_by(haggle)]
    outcome: Outcome[tuple[str, int]] = await start(body(), *scope)
    for offer in "abc":
        assert isinstance(outcome, Suspended)
        assert len(outcome.log.entries) == 4  # the effect, and one iteration: mark, charge, question
        outcome = await resume(body(), stored(outcome), *scope, answer=offer)

    assert outcome.value == ("a b c", 3)
    assert charged == [0, 1, 2]
    assert (await replay(body(), stored(outcome), *scope)).value == ("a b c", 3)
    cold = await always_cold(body(), *scope, answer=lambda _: "x")
    assert cold.value == ("x x x", 3)


async def test_errors_go_through_it() -> None:
    """5.5 What it raises is thrown in at the request; what is raised at its requests, it may catch."""

    def fails(_effect: Charge) -> str:
        message = "no money"
        raise ValueError(message)

    @computation
    async def catches(_effect: Buy) -> Effectful[str]:
        try:
            yield Charge(1)
        except ValueError as error:
            message = f"cannot buy: {error}"
            raise LookupError(message) from error

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Buy("bread")
        except LookupError as error:
            yield Return(str(error))

    scope = [Charge.handled_by(fails), Buy.handled_by(catches)]
    assert await run(body(), *scope) == "cannot buy: no money"
    assert (await always_cold(body(), *scope)).value == "cannot buy: no money"


async def test_its_requests_are_seen_by_observers_and_interceptors() -> None:
    """5.11 Its requests pass the chain as others do."""
    seen: list[str] = []

    def watch(observation: Observation) -> None:
        seen.append(f"{type(observation.request.effect).__name__} {observation.request.id}")

    async def passes_on(request: Any, perform: Any) -> Any:
        return await perform(request)

    scope = [total.handler(0), Charge.always("charged"), Buy.handled_by(buy)]
    await run(errands(), *scope, intercept=[passes_on], observe=[watch])

    bought = [f"Charge 0/{n}/2 State[handled.total].modify 0/{n}/3 Buy 0/{n}" for n in (1, 2)]
    assert " ".join(seen) == " ".join([*bought, "Charge 0/3"])


async def test_a_function_that_only_makes_a_computation_is_refused() -> None:
    """5.7 A sync handler that gives a computation, which nobody would request, is refused with the fix."""

    def hidden(effect: Buy) -> Any:
        return buy(effect)

    with pytest.raises(UnawaitedAnswerError, match="Buy"):
        await run(errands(), Buy.handled_by(hidden))


# -- ports -------------------------------------------------------------------------------------------------------------


class Market(Port, Protocol):
    @operation
    async def buy(self, item: str, *, count: int = 1) -> str: ...

    @operation
    async def sell(self, item: str) -> str: ...


@dataclass
class Trader:
    """An implementation of computations, one of them native, and a plain method."""

    name: str

    @computation
    async def buy(self, item: str, *, count: int = 1) -> Effectful[str]:
        receipt = yield Charge(count)
        yield Return(f"{self.name} buys {item}: {receipt}")

    @computation
    async def sell(self, item: str) -> str:
        return f"{self.name} sells {item}: {await Refund(1)}"


@port
async def quote(item: str) -> int:
    return len(item)


@computation
async def dear(item: str) -> Effectful[int]:
    receipt = yield Charge(len(item))
    yield Return(len(receipt))


@computation
async def trades() -> Effectful[list[Any]]:
    bought = yield Market.buy("desk", count=3)
    answer = yield Ask()
    sold = await Market.sell("chair")
    price = yield quote("lamp")
    yield Return([bought, answer, sold, price])


async def test_an_implementation_may_be_made_of_computations() -> None:
    """5.9 Methods that are computations implement a port, and a computation a function port."""
    ids: list[str] = []
    scope: list[Handler] = [
        Charge.always("charged"),
        Refund.always("refunded"),
        Market.handler(Trader("ada")),
        quote.handled_by(dear),
    ]

    outcome = await always_cold(
        trades(), *scope, answer=lambda _: "go", observe=[lambda seen: ids.append(seen.request.id)]
    )

    assert outcome.value == ["ada buys desk: charged", "go", "ada sells chair: refunded", 7]
    assert set(ids) == {"0/1", "0/1/2", "0/2", "0/3", "0/3/2", "0/4", "0/4/2"}
    assert await run(trades(), *scope, Ask.always("go")) == outcome.value


async def test_a_module_of_computations_implements_a_port() -> None:
    """5.9 Any object with the operations does, so a module whose functions are computations does, too."""

    class Module:
        """As a module holds them: without `self`."""

        buy = staticmethod(dear_buy)
        sell = staticmethod(dear)

    handler = Market.handler(Module())
    assert await run(trades(), handler, Charge.always("charged"), quote.default(), Ask.always("go")) == [
        "desk 3",
        "go",
        7,
        4,
    ]


@computation
async def dear_buy(item: str, *, count: int = 1) -> str:
    return f"{item} {count}"


def test_a_computation_of_another_shape_is_refused_when_the_handler_is_built() -> None:
    """3 Misfits are refused when the handler is built."""

    class Wrong:
        @computation
        async def buy(self, thing: int, other: int) -> Effectful[str]:
            yield Return(f"{thing} {other}")

        @computation
        async def sell(self, item: str) -> Effectful[str]:
            yield Return(item)

    with pytest.raises(DeclarationError, match="does not take its arguments"):
        Market.handler(Wrong())
    with pytest.raises(DeclarationError, match="does not take its arguments"):
        quote.handled_by(buy_for)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
