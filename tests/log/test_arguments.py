"""DESIGN 6.1, 6.4: which arguments a run was started with, and that today's call has the same."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import Raw, Struct

from skuld_async import (
    Computation,
    DeclarationError,
    DivergenceError,
    Effectful,
    Log,
    Return,
    UnencodableError,
    computation,
    resume,
    start,
)

from .shop import Approval, completed, left, stored, suspended


class Item(Struct, frozen=True):
    name: str
    count: int = 1


@computation(name="orders")
async def orders(item: Item) -> Effectful[str]:
    answer = yield Approval()
    yield Return(f"{item.name} {item.count} {answer}")


@computation(name="orders")
async def orders_later(
    item: Item,
    note: str = "none",
    *,
    express: bool = False,
    tags: list[str] = [],  # noqa: B006 - a mutable default
) -> Effectful[str]:
    answer = yield Approval()
    yield Return(f"{item.name} {item.count} {answer} {note} {express} {tags}")


async def started(comp: Computation[Any]) -> Log:
    return stored(suspended(await start(comp)).log)


async def test_a_parameter_that_was_added_with_a_default_still_matches() -> None:
    """6.4 Bytes that differ only because something with a default was added still match: a parameter, too."""
    log = await started(orders(Item("lamp")))

    outcome = completed(await resume(orders_later(Item("lamp")), log, answer="yes"))

    assert outcome.value == "lamp 1 yes none False []"


@pytest.mark.parametrize(
    ("later", "difference"),
    [
        (lambda: orders_later(Item("lamp"), "soon"), '$.note: missing -> "soon"'),
        (lambda: orders_later(Item("lamp"), express=True), "$.express: missing -> true"),
        (lambda: orders_later(Item("lamp", 2)), "$.item.count: 1 -> 2"),
    ],
    ids=["added", "keyword", "old"],
)
async def test_another_value_than_the_default_is_another_argument(
    later: Callable[[], Computation[str]], difference: str
) -> None:
    """6.4 A run was started with the default of what was added later: any other value is a divergence."""
    log = await started(orders(Item("lamp")))

    with pytest.raises(DivergenceError, match="other arguments") as caught:
        await resume(later(), log, answer="yes")

    assert difference in caught.value.differences


async def test_a_parameter_that_was_removed_is_a_divergence() -> None:
    """6.4 What the run was started with is part of it: a call that leaves it out is another one."""
    log = await started(orders_later(Item("lamp"), "soon"))

    with pytest.raises(DivergenceError, match="other arguments"):
        await resume(orders(Item("lamp")), log, answer="yes")


async def test_a_log_gives_the_call_back() -> None:
    """6.1 The header binds the arguments: `from_json` makes the call of them, with today's defaults for later ones."""
    log = await started(orders(Item("lamp", 3)))

    outcome = completed(await resume(orders_later.from_json(log.header.arguments), log, answer="yes"))

    assert outcome.value == "lamp 3 yes none False []"


@computation
async def anyhow(first: int, /, second: str = "b", *others: int, flag: bool = False, **options: str) -> Effectful[str]:
    answer = yield Approval()
    yield Return(f"{first} {second} {others} {flag} {options} {answer}")


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        (anyhow(1), b'{"first":1,"flag":false,"options":{},"others":[],"second":"b"}'),
        (
            anyhow(1, "c", 2, 3, flag=True, colour="red"),
            b'{"first":1,"flag":true,"options":{"colour":"red"},"others":[2,3],"second":"c"}',
        ),
    ],
    ids=["least", "all"],
)
async def test_every_kind_of_parameter_can_be_logged(call: Computation[str], arguments: bytes) -> None:
    """6.1 Canonical arguments: positional-only, keyword-only, `*args` and `**kwargs`, by name, and back."""
    log = await started(call)
    assert bytes(log.header.arguments) == arguments

    outcome = completed(await resume(anyhow.from_json(log.header.arguments), log, answer="yes"))

    assert completed(await resume(call, log, answer="yes")).value == outcome.value


async def test_what_starred_parameters_take_is_checked() -> None:
    """6.11 The unencodable is refused, with its path and before anything is performed: in `*args` too."""
    for call, place in ((anyhow(1, "b", "x"), "others"), (anyhow(1, colour=3), "options")):  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(UnencodableError, match=rf"argument '{place}' of .*:anyhow cannot be logged") as caught:
            await start(call)
        assert left(caught.value).entries == []


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (b"{}", "there is no value for `item`"),
        (b'{"item":{"name":"x"},"colour":1}', "there is no parameter `colour`"),
        (b'{"item":{"name":1}}', r"`item`: Expected `str`, got `int` - at `\$\.name`"),
        (b"[1]", "Expected `object`, got `array`"),
        (b"{", "truncated"),
    ],
    ids=["missing", "unknown", "other-type", "no-object", "damaged"],
)
def test_arguments_that_cannot_be_read_say_why(arguments: bytes, problem: str) -> None:
    """6.11 The undecodable is an error, never None: it names the computation, the parameter and the way out."""
    for data in (arguments, Raw(arguments)):
        with pytest.raises(DeclarationError, match=problem) as caught:
            orders.from_json(data)
        assert str(caught.value).startswith("orders: its arguments cannot be read from")
        assert "give new parameters a default" in str(caught.value)


async def test_a_parameter_that_no_log_can_hold_is_named_where_its_computation_is_a_root() -> None:
    """6.11 An argument type that could not be read back is refused at the start, with computation and parameter."""

    @computation(name="listens")
    async def listens(call: Callable[[int], int]) -> Effectful[int]:
        yield Return(call(1))

    with pytest.raises(DeclarationError, match=r"argument 'call' of listens: .*Callable cannot be read back"):
        await start(listens(abs))
