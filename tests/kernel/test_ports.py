"""Ports: contracts, functions as ports, their handlers, and what is refused."""

import functools
from typing import Any, Literal, Protocol, cast
from unittest.mock import AsyncMock

import anyio
import pytest
from msgspec import Struct

from skuld_async import (
    DeclarationError,
    Effect,
    Effectful,
    Port,
    Return,
    UnhandledEffectError,
    computation,
    operation,
    port,
    run,
)


class Item(Struct, frozen=True):
    name: str


class SoldOut(Exception):
    pass


class Shop(Port, Protocol):
    @operation
    async def price(self, item: Item, count: int = 1, *, currency: str = "EUR") -> str: ...

    @operation(raises=[SoldOut], sig="shop:buy")
    async def buy(self, item: Item) -> bool: ...


class RealShop:
    async def price(self, item: Item, count: int = 1, *, currency: str = "EUR") -> str:
        await anyio.lowlevel.checkpoint()
        return f"{count} {item.name} in {currency}"

    async def buy(self, item: Item) -> bool:
        raise SoldOut(item.name)


class QuickShop:
    def price(self, what: Item, /, how_many: int, currency: str = "", extra: str = "!") -> str:
        return f"{how_many} {what.name} in {currency}{extra}"

    def buy(self, *args: Any) -> bool:
        return bool(args)


PEN = Item("pen")


@computation
async def shopping() -> Effectful[list[str]]:
    first = yield Shop.price(PEN)
    second = await Shop.price(PEN, 2, currency="USD")
    third = yield Shop.price(count=3, item=PEN)
    yield Return([first, second, third])


async def test_a_contract_is_answered_by_any_object_with_its_methods() -> None:
    """3 An implementation is any object with these methods, sync or async; defaults and keywords work as in a call."""
    assert await run(shopping(), Shop.handler(RealShop())) == ["1 pen in EUR", "2 pen in USD", "3 pen in EUR"]
    assert await run(shopping(), Shop.handler(QuickShop())) == ["1 pen in EUR!", "2 pen in USD!", "3 pen in EUR!"]


def test_calling_an_operation_gives_an_effect() -> None:
    """3 `Validator.validate(purchase)` is an effect: data, equal by its arguments, however they were given."""
    effect = Shop.price(PEN, 2)
    assert isinstance(effect, Effect)
    assert effect == Shop.price(count=2, item=PEN, currency="EUR")
    assert effect != Shop.price(PEN, 3)
    assert (type(effect).__sig__, type(Shop.buy(PEN)).__sig__) == (f"{__name__}:Shop.price", "shop:buy")
    assert type(Shop.buy(PEN)).__raises__ == (SoldOut,)
    assert type(effect).__answer__.type is str


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "item"),
        ((PEN, 1, "USD"), {}, r"Shop\.price\(\) takes 2 positional arguments but 3 were given"),
        ((PEN,), {"item": PEN}, r"Shop\.price\(\) got multiple values for argument 'item'"),
        ((PEN,), {"colour": "red"}, "colour"),
    ],
    ids=["missing", "too many", "twice", "unknown"],
)
def test_wrong_arguments_are_a_type_error_at_the_call(args: Any, kwargs: Any, message: str) -> None:
    """A call that does not fit is a TypeError at its line, as for any function."""
    with pytest.raises(TypeError, match=message):
        Shop.price(*args, **kwargs)


async def test_an_operations_error_arrives_as_it_is() -> None:
    """5.5 Errors of an implementation are raised at the request."""

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Shop.buy(PEN)
        except SoldOut as error:
            yield Return(f"sold out: {error}")

    assert await run(body(), Shop.handler(RealShop())) == "sold out: pen"


class Missing:
    async def price(self, item: Item, count: int, *, currency: str) -> str:
        raise NotImplementedError


class TooFew(Missing):
    async def buy(self) -> bool:
        raise NotImplementedError


class TooMany(Missing):
    async def buy(self, item: Item, coupon: str) -> bool:
        raise NotImplementedError


class KeywordOnly(Missing):
    async def buy(self, *, item: Item) -> bool:
        raise NotImplementedError


class RequiredKeyword(Missing):
    async def buy(self, item: Item, *, coupon: str) -> bool:
        raise NotImplementedError


class NoCurrency:
    async def price(self, item: Item, count: int) -> str:
        raise NotImplementedError

    async def buy(self, item: Item) -> bool:
        raise NotImplementedError


class AnotherOrder:
    async def buy(self, item: Item) -> bool:
        raise NotImplementedError

    async def price(self, count: int, item: Item, *, currency: str) -> str:
        raise NotImplementedError


class NotCallable(Missing):
    buy = "yes"


@pytest.mark.parametrize(
    ("implementation", "message"),
    [
        (Missing(), r"Shop\.buy: Missing has no method buy"),
        (TooFew(), r"Shop\.buy: .*TooFew\.buy\(\).* does not take its arguments"),
        (TooMany(), r"Shop\.buy: .*TooMany\.buy.*missing a required argument: 'coupon'"),
        (KeywordOnly(), r"Shop\.buy: .*KeywordOnly\.buy.* does not take its arguments"),
        (RequiredKeyword(), r"Shop\.buy: .*RequiredKeyword\.buy.* does not take its arguments"),
        (NoCurrency(), r"Shop\.price: .*NoCurrency\.price.* does not take its arguments"),
        (AnotherOrder(), r"Shop\.price: .*AnotherOrder\.price.* takes its arguments in another order"),
        (NotCallable(), r"Shop\.buy: 'yes' is not callable"),
    ],
    ids=[
        "missing method",
        "too few parameters",
        "extra required parameter",
        "keyword-only",
        "required keyword",
        "missing keyword",
        "another order",
        "not callable",
    ],
)
def test_misfits_are_refused_when_the_handler_is_built(implementation: object, message: str) -> None:
    """3 Misfits are refused when the handler is built, with what to write instead."""
    with pytest.raises(DeclarationError, match=message) as caught:
        Shop.handler(implementation)
    assert "write async def" in str(caught.value)


def test_the_way_out_of_a_misfit_is_the_signature_to_write() -> None:
    """3 The message shows the method as the contract has it."""
    with pytest.raises(DeclarationError) as caught:
        Shop.handler(NoCurrency())
    assert "write async def price(item: tests.kernel.test_ports.Item, count: int = 1, *, currency: str = 'EUR')" in str(
        caught.value
    )


async def test_mocks_are_implementations() -> None:
    """3 A mock with the contract's methods is an implementation like any other."""
    mock = AsyncMock()
    mock.price.return_value = "mocked"
    assert await run(shopping(), Shop.handler(mock)) == ["mocked"] * 3
    mock.price.assert_awaited_with(PEN, 3, currency="EUR")


def test_a_contract_without_operations_is_refused() -> None:
    """3 A contract without operations answers nothing, which its handler says."""

    class Forgotten(Port, Protocol):
        name: str

    with pytest.raises(DeclarationError, match="has no operations") as caught:
        Forgotten.handler(RealShop())
    assert "@operation" in str(caught.value)


def test_a_method_that_is_no_operation_is_refused() -> None:
    """3 A contract whose method was not marked is refused where it is declared."""
    with pytest.raises(DeclarationError, match=r"Half.price: it is no operation") as caught:

        class Half(Port, Protocol):  # pyright: ignore[reportUnusedClass]
            @operation
            async def name(self) -> str: ...

            async def price(self, item: Item) -> str: ...

    assert "@operation async def price" in str(caught.value)


def test_a_class_is_no_implementation() -> None:
    """3 A class in the place of an object of it is refused, with the call to write."""
    with pytest.raises(DeclarationError, match="RealShop is a class") as caught:
        Shop.handler(RealShop)
    assert "Shop.handler(RealShop(...))" in str(caught.value)


def test_a_call_that_does_not_fit_names_its_operation() -> None:
    """3 Missing and unknown arguments are a TypeError that names the operation."""
    with pytest.raises(TypeError, match=r"Shop.price\(\): Missing required argument 'item'"):
        Shop.price()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def test_contracts_inherit_operations() -> None:
    """3 A contract that derives from another has its operations too."""

    class BigShop(Shop, Protocol):
        @operation
        async def deliver(self, item: Item) -> str: ...

    class RealBigShop(RealShop):
        async def deliver(self, item: Item) -> str:
            return f"{item.name} delivered"

    @computation
    async def body() -> Effectful[list[str]]:
        yield Return([(yield BigShop.price(PEN)), (yield BigShop.deliver(PEN))])

    assert await run(body(), BigShop.handler(RealBigShop())) == ["1 pen in EUR", "pen delivered"]


async def test_one_operation_can_be_answered_alone() -> None:
    """3 `Actions.execute.always(receipt)` and `.handled_by(function)` answer one operation alone."""

    async def price(item: Item, count: int = 0, *, currency: str = "") -> str:
        await anyio.lowlevel.checkpoint()
        return f"{item.name} {count} {currency}"

    assert await run(shopping(), Shop.price.always("free")) == ["free"] * 3
    assert await run(shopping(), Shop.price.handled_by(price)) == ["pen 1 EUR", "pen 2 USD", "pen 3 EUR"]
    with pytest.raises(DeclarationError, match=r"Shop\.price: .*does not take its arguments"):
        cast("Any", Shop.price).handled_by(str.lower)
    with pytest.raises(UnhandledEffectError, match=r"nothing handles Shop\.price .*scope: Shop\.buy\)"):
        await run(shopping(), Shop.buy.always(True))


@port
async def quote(supplier: str, count: int = 1) -> str:
    await anyio.lowlevel.checkpoint()
    return f"{count} from {supplier}"


@port(raises=[SoldOut], sig="shop:reserve")
async def reserve(name: str) -> bool:
    raise SoldOut(name)


@computation
async def ask_for_a_quote() -> Effectful[list[str]]:
    yield Return([(yield quote("acme")), (await quote("acme", count=2))])


async def test_a_function_is_a_port() -> None:
    """3 A function is a port: its body is the default implementation only where `quote.default()` is installed."""
    with pytest.raises(UnhandledEffectError, match="nothing handles quote"):
        await run(ask_for_a_quote())
    assert await run(ask_for_a_quote(), quote.default()) == ["1 from acme", "2 from acme"]
    assert await run(ask_for_a_quote(), quote.always("q")) == ["q", "q"]

    def doubled(supplier: str, count: int = 0) -> str:
        return f"{2 * count} from {supplier}"

    assert await run(ask_for_a_quote(), quote.handled_by(doubled)) == ["2 from acme", "4 from acme"]
    assert await run(ask_for_a_quote(), quote.handled_by(cast("Any", functools.partial(doubled)))) == [
        "2 from acme",
        "4 from acme",
    ]


def test_a_function_port_is_declared_like_an_operation() -> None:
    """3 It has a stable name, declared errors and declared types."""
    assert (type(quote("a")).__sig__, type(reserve("a")).__sig__) == (f"{__name__}:quote", "shop:reserve")
    assert type(reserve("a")).__raises__ == (SoldOut,)
    assert getattr(quote, "__name__", None) == "quote"


def test_bad_declarations_are_refused_where_they_stand() -> None:
    """6.11 Port annotations are compiled where the port is declared; what has no fixed shape is refused there."""
    with pytest.raises(DeclarationError, match=r"the parameter \*rest has no fixed shape"):

        @port
        async def many(*rest: int) -> int:
            return len(rest)

    with pytest.raises(DeclarationError, match=r"the parameter \*options has no fixed shape"):

        class Open(Port, Protocol):  # pyright: ignore[reportUnusedClass]
            @operation
            async def search(self, /, **options: int) -> int: ...

    with pytest.raises(DeclarationError, match="ValueError is an exception"):

        @port
        async def maybe(n: int) -> int | ValueError:
            return n


@port
async def forward(one: "Later") -> "list[Later]":
    return [one]


class Later(Struct, frozen=True):
    kind: Literal["later"]


async def test_annotations_may_name_what_is_defined_further_down() -> None:
    """6.11 A forward reference is compiled at the first use."""

    @computation
    async def body() -> Effectful[list[Later]]:
        yield Return((yield forward(Later("later"))))

    assert await run(body(), forward.default()) == [Later("later")]
    assert type(forward(Later("later"))).__answer__.type == list[Later]


async def test_mutable_defaults_are_not_shared() -> None:
    """A mutable default is a fresh one for each call."""

    @port
    async def collect(items: list[int] = []) -> list[int]:  # noqa: B006 - that is the point
        items.append(1)
        return items

    @computation
    async def body() -> Effectful[list[list[int]]]:
        yield Return([(yield collect()), (yield collect())])

    assert await run(body(), collect.default()) == [[1], [1]]
