"""5.5: what a handler raises arrives at the request, so cancel scopes and task groups held across a `yield` behave."""

from typing import Any

import anyio
import pytest
from anyio import get_cancelled_exc_class

from skuld_async import Computation, Effect, Effectful, Handler, Return, computation, run

from .parts import Boom, Double, Slow, boom, boom_at_once, double_later, too_slow

HANDLERS: list[Handler] = [Slow.handled_by(too_slow), Double.handled_by(double_later), Boom.handled_by(boom)]


@computation
async def slowly() -> Effectful[str]:
    yield Return((yield Slow()))


WAYS = pytest.mark.parametrize("what", [Slow(), slowly()], ids=["effect", "computation"])


@WAYS
async def test_fail_after_in_a_body(what: Effect[str] | Computation[str]) -> None:
    """5.5 `fail_after` in the body cancels the handler and raises TimeoutError at its block; the body goes on."""

    @computation
    async def body() -> Effectful[str]:
        try:
            with anyio.fail_after(0.01):
                yield what
        except TimeoutError:
            after = yield Double(2)
            yield Return(f"timeout caught, {after}")

    @computation
    async def awaiting() -> str:
        try:
            with anyio.fail_after(0.01):
                await what
        except TimeoutError:
            return f"timeout caught, {await Double(2)}"
        raise AssertionError

    assert await run(body(), *HANDLERS) == "timeout caught, 4"
    assert await run(awaiting(), *HANDLERS) == "timeout caught, 4"


@WAYS
async def test_move_on_after_in_a_body(what: Effect[str] | Computation[str]) -> None:
    """5.5 `move_on_after` in the body: its scope catches the cancellation of the handler."""

    @computation
    async def body() -> Effectful[bool]:
        with anyio.move_on_after(0.01) as scope:
            yield what
        yield Double(1)
        yield Return(scope.cancelled_caught)

    assert await run(body(), *HANDLERS) is True


async def test_a_task_group_held_across_a_yield() -> None:
    """5.5 Children of a group in the body run while a handler works, and are joined at the end of its block."""
    seen: list[str] = []

    async def child() -> None:
        await anyio.lowlevel.checkpoint()
        seen.append("child done")

    @computation
    async def body() -> Effectful[tuple[int, list[str]]]:
        answer = 0
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            answer = yield Double(2)
        yield Return((answer, seen))

    assert await run(body(), *HANDLERS) == (4, ["child done"])


@WAYS
async def test_a_child_that_fails_cancels_the_handler(what: Effect[str] | Computation[str]) -> None:
    """5.5 Where a child of the body's group fails, the handler at work is cancelled and the group raises."""

    async def child() -> None:
        message = "child failed"
        raise ValueError(message)

    @computation
    async def body() -> Effectful[list[str]]:
        names: list[str] = []
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                yield what
        except* ValueError as group_error:
            names = [type(error).__name__ for error in group_error.exceptions]
        yield Return(names)

    assert await run(body(), *HANDLERS) == ["ValueError"]


async def test_an_error_of_a_handler_cancels_the_group() -> None:
    """5.5 An error raised by a handler leaves the group as any error of its body: wrapped, the children cancelled."""
    cancelled: list[bool] = []

    async def child() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)

    @computation
    async def body() -> Effectful[list[str]]:
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(child)
                yield Boom(KeyError("k"))
        except BaseExceptionGroup as group_error:
            yield Return([type(error).__name__ for error in group_error.exceptions])

    assert await run(body(), *HANDLERS) == ["KeyError"]
    assert cancelled == [True]


async def test_cancellation_from_outside_arrives_at_the_request() -> None:
    """5.5 Cancelling the caller: the body sees it at its `yield`, its `finally` runs, the scope outside catches it."""
    seen: list[str] = []

    @computation
    async def inner() -> Effectful[None]:
        try:
            yield Slow()
        except get_cancelled_exc_class():
            seen.append("cancelled at the yield")
            raise
        finally:
            seen.append("finally")

    @computation
    async def outer() -> None:
        try:
            await inner()
        finally:
            seen.append("finally outside")

    with anyio.move_on_after(0.01) as scope:
        await run(outer(), *HANDLERS)

    assert scope.cancelled_caught
    assert seen == ["cancelled at the yield", "finally", "finally outside"]


async def test_except_exception_does_not_swallow_a_cancellation() -> None:
    """5.5 A body's `except Exception` catches no cancellation."""

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Slow()
        except Exception:  # noqa: BLE001 - that is the point
            yield Return("swallowed")

    with anyio.move_on_after(0.01) as scope:
        await run(body(), *HANDLERS)
    assert scope.cancelled_caught


async def test_a_scope_held_across_several_requests() -> None:
    """5.5 A scope may be held across many requests, and nested in others of the same body or of its callers."""

    @computation
    async def inner() -> Effectful[str]:
        short = anyio.CancelScope(deadline=anyio.current_time() + 0.01)
        with anyio.move_on_after(5):
            yield Double(1)
            with short:
                yield Double(2)
                yield Slow()
            yield Double(3)
        yield Return(f"inner {short.cancelled_caught}")

    @computation
    async def outer() -> Effectful[str]:
        with anyio.fail_after(5):
            answer = yield inner()
        yield Double(4)
        yield Return(answer)

    assert await run(outer(), *HANDLERS) == "inner True"


async def test_a_callers_scope_cancels_through_its_callee() -> None:
    """5.5 A scope of the caller unwinds the callee that holds scopes of its own, and the caller goes on."""
    left: list[str] = []

    @computation
    async def inner() -> Effectful[None]:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            try:
                yield Slow()
            finally:
                left.append("inner")

    @computation
    async def outer() -> Effectful[str]:
        with anyio.move_on_after(0.01) as scope:
            yield inner()
        yield Return(f"caught {scope.cancelled_caught}")

    assert await run(outer(), *HANDLERS) == "caught True"
    assert left == ["inner"]


class Stop(BaseException):
    """Not an Exception."""


@pytest.mark.parametrize("handler", [boom, boom_at_once], ids=["async", "sync"])
@pytest.mark.parametrize(
    "error",
    [ValueError("v"), Stop("s"), ExceptionGroup("g", [ValueError("v")]), StopIteration("i"), StopAsyncIteration("a")],
    ids=lambda error: type(error).__name__,
)
async def test_whatever_a_handler_raises_arrives_at_the_request(error: BaseException, handler: Any) -> None:
    """5.5 Whatever a handler raises is thrown in at the request: the same object, for `yield` as for `await`."""
    caught: list[BaseException] = []

    @computation
    async def by_yield() -> Effectful[None]:
        try:
            yield Boom(error)
        except BaseException as arrived:  # noqa: BLE001 - whatever it is
            caught.append(arrived)

    @computation
    async def by_await() -> None:
        try:
            await Boom(error)
        except BaseException as arrived:  # noqa: BLE001 - whatever it is
            caught.append(arrived)

    await run(by_yield(), Boom.handled_by(handler))
    await run(by_await(), Boom.handled_by(handler))

    assert len(caught) == 2
    for arrived in caught:
        # No coroutine can raise StopIteration: Python makes a RuntimeError of it.
        assert arrived is error or (isinstance(error, StopIteration) and arrived.__cause__ is error)


@pytest.mark.parametrize("handler", [boom, boom_at_once], ids=["async", "sync"])
async def test_what_a_body_does_not_catch_leaves_the_run(handler: Any) -> None:
    """5.5 What no body catches leaves `run` as it is, the same object."""
    for error in (ValueError("v"), Stop("s")):

        @computation
        async def by_yield(boom_: Boom) -> Effectful[str]:
            yield Return((yield boom_))

        @computation
        async def by_await(boom_: Boom) -> str:
            return await boom_

        for body in (by_yield, by_await):
            with pytest.raises(type(error)) as caught:
                await run(body(Boom(error)), Boom.handled_by(handler))
            assert caught.value is error
