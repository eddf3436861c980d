"""5.12: what an error shows."""

import traceback
from typing import Any, Protocol

import pytest

import skuld_async
from skuld_async import (
    Effectful,
    Interceptor,
    Perform,
    Port,
    Request,
    Return,
    State,
    Throw,
    computation,
    operation,
    run,
)

from .parts import Boom, Charge, boom, boom_at_once

PACKAGE = skuld_async.__file__.removesuffix("__init__.py")


def shown(error: BaseException) -> list[str]:
    """Function names of the traceback, those of the package marked with `!`."""
    lines = traceback.extract_tb(error.__traceback__)
    return [f"!{line.name}" if line.filename.startswith(PACKAGE) else line.name for line in lines]


def between(names: list[str], first: str) -> list[str]:
    """What follows from the first line named *first* on."""
    return names[names.index(first) :]


@computation
async def bottom_yields() -> Effectful[str]:
    yield Return((yield Boom(ValueError("v"))))


@computation
async def bottom_awaits() -> str:
    return await Boom(ValueError("v"))


@computation
async def middle_yields(bottom: Any) -> Effectful[str]:
    yield Return((yield bottom()))


@computation
async def middle_awaits(bottom: Any) -> str:
    value: str = await bottom()
    return value


@pytest.mark.parametrize("handler", [boom, boom_at_once], ids=["async", "sync"])
@pytest.mark.parametrize("bottom", [bottom_yields, bottom_awaits], ids=["bottom yields", "bottom awaits"])
@pytest.mark.parametrize("middle", [middle_yields, middle_awaits], ids=["middle yields", "middle awaits"])
async def test_tracebacks_show_the_users_lines(middle: Any, bottom: Any, handler: Any) -> None:
    """5.12 Tracebacks show the user's lines, not the pump's: each computation's, then the handler's."""
    with pytest.raises(ValueError, match="v") as caught:
        await run(middle(bottom), Boom.handled_by(handler))

    names = between(shown(caught.value), middle.__name__)
    assert names == [middle.__name__, bottom.__name__, handler.__name__]


async def test_no_line_of_the_package_stands_before_the_body() -> None:
    """5.12 Between the caller's line and the body's stands none of the library's: not even `run`."""
    with pytest.raises(ValueError, match="v") as caught:
        await run(bottom_yields(), Boom.handled_by(boom))
    names = shown(caught.value)
    assert names[: names.index("bottom_yields")] == ["test_no_line_of_the_package_stands_before_the_body"]


async def test_tracebacks_through_scopes_brackets_and_interceptors() -> None:
    """5.12 Nor do `handle`, `ensure`, ports, state and interceptors show lines of the package in between."""
    cell = State("cell", int)

    class Shop(Port, Protocol):
        @operation
        async def buy(self, n: int) -> str: ...

    class BrokenShop:
        async def buy(self, n: int) -> str:
            raise ValueError(n)

    async def pass_on(request: Request, perform: Perform) -> Any:
        return await perform(request)

    def broken_change(value: int) -> int:
        raise ValueError(value)

    @computation
    async def buys() -> Effectful[str]:
        yield Return((yield Shop.buy(1)))

    @computation
    async def changes() -> Effectful[int]:
        yield Return((yield cell.modify(broken_change)))

    @computation
    async def scoped(comp: Any) -> Effectful[str]:
        yield Return((yield comp.handle(cell.handler(1)).ensure(Charge())))

    handlers = [Shop.handler(BrokenShop()), Charge.always("c")]
    interceptors: list[list[Interceptor]] = [[], [pass_on]]
    for intercept in interceptors:
        passed = ["pass_on"] * len(intercept)
        with pytest.raises(ValueError, match="1") as caught:
            await run(scoped(buys()), *handlers, intercept=intercept)
        assert between(shown(caught.value), "scoped") == ["scoped", "buys", *passed, "buy"]
        with pytest.raises(ValueError, match="1") as caught:
            await run(scoped(changes()), *handlers, intercept=intercept)
        assert between(shown(caught.value), "scoped") == ["scoped", "changes", *passed, "broken_change"]


async def test_an_error_raised_by_a_body_shows_its_callers() -> None:
    """5.12 An error that a body raises itself shows it and those that requested it."""

    @computation
    async def fails() -> Effectful[str]:
        yield Charge()
        message = "own"
        raise LookupError(message)

    with pytest.raises(LookupError) as caught:
        await run(middle_awaits(fails), Charge.always("c"))
    assert between(shown(caught.value), "middle_awaits") == ["middle_awaits", "fails"]


async def test_a_thrown_error_shows_the_line_that_throws() -> None:
    """5.12 `Throw` shows the line that yields it, and no more."""

    @computation
    async def throws() -> Effectful[str]:
        yield Throw(LookupError("thrown"))

    with pytest.raises(LookupError) as caught:
        await run(middle_yields(throws))
    assert between(shown(caught.value), "middle_yields") == ["middle_yields", "throws"]


@pytest.mark.parametrize("bottom", [bottom_yields, bottom_awaits], ids=["yield", "await"])
@pytest.mark.parametrize("handler", [boom, boom_at_once], ids=["async", "sync"])
async def test_an_error_carries_a_note_with_its_place(bottom: Any, handler: Any) -> None:
    """5.12 An error carries a note with computation, effect and entry id: one, of the request that raised it."""

    @computation
    async def outer() -> Effectful[str]:
        yield Charge()
        yield Return((yield bottom()))

    with pytest.raises(ValueError, match="v") as caught:
        await run(outer(), Boom.handled_by(handler), Charge.always("c"))

    assert caught.value.__notes__ == [f"in {bottom.name}, at Boom (entry 0/3)"]


async def test_an_error_that_passes_a_handler_has_a_note_for_each_request() -> None:
    """5.12 One that passes through a handler's handler names both requests, the inner one first."""

    async def charge(_effect: Charge) -> str:
        return await Boom(ValueError("v"))

    @computation(name="body")
    async def body() -> Effectful[str]:
        yield Return((yield Charge()))

    with pytest.raises(ValueError, match="v") as caught:
        await run(body(), Boom.handled_by(boom), Charge.handled_by(charge))
    first, second = caught.value.__notes__
    assert "at Boom (entry 0/1/1)" in first
    assert second == "in body, at Charge (entry 0/1)"


async def test_an_error_without_a_request_has_no_note() -> None:
    """5.12 An error that no effect raised carries none."""

    @computation
    async def body() -> Effectful[str]:
        yield Charge()
        raise LookupError

    with pytest.raises(LookupError) as caught:
        await run(body(), Charge.always("c"))
    assert not hasattr(caught.value, "__notes__")
