"""5.1: what the body of a computation may be, and how bodies nest."""

from collections.abc import AsyncGenerator
from typing import Any, cast

import anyio
import pytest

from skuld_async import Computation, DeclarationError, Effectful, Return, computation, run

from .parts import Bank, Charge, Double, Refund, double, double_later

DEEP = 5_000
"""More than any recursion limit that a test run could have."""


async def test_yield_and_await_go_through_the_same_handlers_in_order() -> None:
    """5.1 `x = yield effect` and `x = await effect` are served by the same run, in order, through the same handlers."""
    bank = Bank()

    @computation
    async def mixed() -> Effectful[list[str]]:
        first = yield Charge(1)
        second = await Refund(2)
        third = yield Refund(3)
        fourth = await Charge(4)
        yield Return([first, second, third, fourth])

    answers = await run(mixed(), *bank.handlers())

    assert answers == ["charged 1", "refunded 2", "refunded 3", "charged 4"]
    assert bank.performed == ["charge 1", "refund 2", "refund 3", "charge 4"]


async def test_a_body_that_only_awaits_returns_natively() -> None:
    """5.1 A body that only awaits may be a plain coroutine with a native `return`."""

    @computation
    async def awaiting(n: int) -> int:
        return await Double(n) + await Double(n)

    assert await run(awaiting(3), Double.handled_by(double)) == 12
    assert await run(awaiting(3), Double.handled_by(double_later)) == 12


async def test_effects_are_served_in_helper_functions_too() -> None:
    """5.1 An effect awaited in a plain async function, or in an async generator, is served by the run around it."""

    async def numbers() -> AsyncGenerator[int]:
        for n in range(3):
            yield await Double(n)

    async def total() -> int:
        return sum([n async for n in numbers()])

    @computation
    async def body() -> Effectful[int]:
        yield Return(await total())

    assert await run(body(), Double.handled_by(double)) == 6


async def test_ordinary_awaits_pass_through_to_the_event_loop() -> None:
    """5.1 What a body awaits of anyio is the event loop's: it arrives there unchanged, between effects too."""
    seen: list[str] = []

    @computation
    async def body() -> Effectful[None]:
        event = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(other, event)
            seen.append("before")
            await event.wait()
            yield Double(1)
            seen.append("after")

    async def other(event: anyio.Event) -> None:
        seen.append("other")
        event.set()

    await run(body(), Double.handled_by(double_later))

    assert seen == ["before", "other", "after"]


async def test_calling_a_computation_starts_nothing() -> None:
    """2 Calling the function starts nothing: a computation is a recipe, which can be run again and again."""
    started: list[int] = []

    @computation
    async def body(n: int) -> Effectful[int]:
        started.append(n)
        yield Return(n)

    recipe = body(7)
    assert started == []
    assert [await run(recipe), await run(recipe)] == [7, 7]
    assert started == [7, 7]


@computation
async def yields_down(n: int) -> Effectful[int]:
    if n == 0:
        yield Return((yield Double(1)))
        return
    below = yield yields_down(n - 1)
    yield Return(below + 1)


@computation
async def generator_awaits_down(n: int) -> Effectful[int]:
    below = await Double(1) if n == 0 else await generator_awaits_down(n - 1)
    yield Return(below + (n > 0))


@computation
async def coroutine_awaits_down(n: int) -> int:
    return await Double(1) if n == 0 else await coroutine_awaits_down(n - 1) + 1


@computation
async def generator_over_coroutine(n: int) -> Effectful[int]:
    if n == 0:
        yield Return((yield Double(1)))
        return
    below = yield coroutine_over_generator(n - 1)
    yield Return(below + 1)


@computation
async def coroutine_over_generator(n: int) -> int:
    return await Double(1) if n == 0 else await generator_over_coroutine(n - 1) + 1


@pytest.mark.parametrize("handler", [double, double_later])
@pytest.mark.parametrize(
    "nested",
    [yields_down, generator_awaits_down, coroutine_awaits_down, generator_over_coroutine],
    ids=["generators-yield", "generators-await", "coroutines-await", "generators-and-coroutines"],
)
async def test_computations_nest_thousands_deep(nested: Any, handler: Any) -> None:
    """5.1 Both nest: `yield sub()`, `await sub()`, thousands deep."""
    assert await run(nested(DEEP), Double.handled_by(handler)) == DEEP + 2


@computation
async def fails_at_the_bottom(n: int, *, by_yield: bool) -> Effectful[int]:
    if n == 0:
        message = "bottom"
        raise LookupError(message)
    try:
        if by_yield:
            yield fails_at_the_bottom(n - 1, by_yield=by_yield)
        else:
            await fails_at_the_bottom(n - 1, by_yield=by_yield)
    except LookupError:
        if n < DEEP:
            raise
        yield Return(n)


@pytest.mark.parametrize("by_yield", [True, False], ids=["yield", "await"])
async def test_an_error_climbs_thousands_of_computations(by_yield: bool) -> None:
    """5.1 An error passes through each computation on its way up, and any of them can catch it."""
    assert await run(fails_at_the_bottom(DEEP, by_yield=by_yield)) == DEEP


async def test_sub_computations_share_scope_and_give_their_result() -> None:
    """5.1 A sub-computation runs in the scope of the line that requests it and gives what it returned there."""

    @computation
    async def pay(cents: int) -> Effectful[str]:
        receipt = yield Charge(cents)
        yield Return(receipt)

    @computation
    async def body() -> Effectful[tuple[str, str]]:
        first = yield pay(1)
        second = await pay(2)
        yield Return((first, second))

    bank = Bank()
    assert await run(body(), *bank.handlers()) == ("charged 1", "charged 2")


async def test_a_wrong_call_is_an_error_at_the_line_that_requests_it() -> None:
    """5.1 A recipe with arguments that do not fit raises TypeError where it is requested."""

    @computation
    async def takes_one(n: int) -> Effectful[int]:
        yield Return(n)

    wrong: Computation[int] = cast("Any", takes_one)(1, 2)

    @computation
    async def body() -> Effectful[str]:
        try:
            yield wrong
        except TypeError as error:
            yield Return(str(error))

    assert "takes 1 positional argument but 2 were given" in await run(body())


async def test_methods_can_be_computations() -> None:
    """5.1 `@computation` works on methods: `self` is an argument like any other."""

    class Shop:
        def __init__(self, price: int) -> None:
            self.price = price

        @computation
        async def sell(self, count: int) -> Effectful[str]:
            yield Return((yield Charge(self.price * count)))

    assert await run(Shop(5).sell(2), *Bank().handlers()) == "charged 10"
    assert await run(Shop.sell(Shop(5), 3), *Bank().handlers()) == "charged 15"


def test_a_computation_is_an_async_function() -> None:
    """5.1 A body is an async generator or a coroutine function: anything else is refused where it is declared."""

    def plain() -> int:
        return 1

    with pytest.raises(DeclarationError, match=r"async def plain"):
        cast("Any", computation)(plain)


def test_a_body_without_yield_is_annotated_with_what_it_returns() -> None:
    """5.1 `Effectful` annotates generators: on a body that yields nothing it is refused, with the fix."""
    with pytest.raises(DeclarationError, match=r"annotate it `-> T` instead of `-> Effectful\[T\]`"):

        @computation
        async def awaiting() -> Effectful[int]:
            return await Double(1)  # type: ignore[return-value]  # pyright: ignore[reportReturnType]


async def test_many_small_computations_in_one_run() -> None:
    """5.1 A frame that has ended is gone: thousands of computations one after the other need no more than one."""

    @computation
    async def one(n: int) -> Effectful[int]:
        yield Return(n)

    @computation
    async def body() -> Effectful[int]:
        total = 0
        for n in range(1_000):
            total += yield one(n)
            total += await one(n)
        yield Return(total)

    assert await run(body()) == 999_000
