"""5.4: one task for each strand, from its first step to its last."""

import asyncio
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import sniffio

from skuld_async import Effect, Effectful, OutsideStrandError, Return, computation, run

from .parts import Bank, Charge, Double, Refund, double_later


def this_task() -> int:
    return anyio.get_current_task().id


async def test_all_steps_run_in_the_task_of_the_caller() -> None:
    """5.4 Same task from first step to last: bodies, handlers and cleanup."""
    tasks: list[int] = []

    async def watch(_effect: Double) -> int:
        tasks.append(this_task())
        await anyio.lowlevel.checkpoint()
        return 1

    @computation
    async def inner() -> int:
        tasks.append(this_task())
        return await Double(1)

    @computation
    async def body() -> Effectful[None]:
        try:
            tasks.append(this_task())
            yield inner()
            await anyio.lowlevel.checkpoint()
            tasks.append(this_task())
        finally:
            yield Double(2)
            tasks.append(this_task())

    await run(body(), Double.handled_by(watch))

    assert len(tasks) == 6
    assert set(tasks) == {this_task()}


async def in_task_group(request: Callable[[], Awaitable[Any]]) -> None:
    async def child() -> None:
        await request()

    async with anyio.create_task_group() as group:
        group.start_soon(child)


async def in_started_task(request: Callable[[], Awaitable[Any]]) -> None:
    async def child(*, task_status: anyio.abc.TaskStatus[Any]) -> None:
        task_status.started(await request())

    async with anyio.create_task_group() as group:
        await group.start(child)


async def in_gather(request: Callable[[], Awaitable[Any]]) -> None:
    async def child() -> None:
        await request()

    await asyncio.gather(child(), child())


async def in_create_task(request: Callable[[], Awaitable[Any]]) -> None:
    async def child() -> None:
        await request()

    await asyncio.create_task(child())


async def in_wait_for(request: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.wait_for(request(), 5)


async def in_thread(request: Callable[[], Awaitable[Any]]) -> None:
    async def child() -> None:
        await request()

    def new_loop() -> None:
        anyio.run(child)

    await anyio.to_thread.run_sync(new_loop)


anyio_ways = [in_task_group, in_started_task, in_thread]
asyncio_ways: list[Any] = [in_gather, in_create_task, *([in_wait_for] if sys.version_info < (3, 12) else [])]


async def refused(way: Any, request: Callable[[], Awaitable[Any]], name: str) -> None:
    """Request something through *way*: it is not performed, whatever the body catches."""
    bank = Bank()

    @computation
    async def body() -> Effectful[str]:
        try:
            await way(request)
        except BaseException:  # noqa: BLE001, S110 - that is the point
            pass
        yield Return((yield Charge(2)))

    with pytest.raises(OutsideStrandError) as caught:
        await run(body(), *bank.handlers())

    assert bank.performed == []
    assert name in caught.value.request
    assert "Parallel" in str(caught.value)
    assert "child task" in str(caught.value)


@computation
async def pay() -> str:
    return await Charge()


REQUESTS = pytest.mark.parametrize(
    ("request_", "name"),
    [(lambda: _awaiting(Charge()), "Charge"), (lambda: _awaiting(pay()), "pay")],
    ids=["effect", "computation"],
)


async def _awaiting(request: Any) -> Any:
    return await request


@REQUESTS
@pytest.mark.parametrize("way", anyio_ways)
async def test_a_request_in_a_child_task_is_refused(way: Any, request_: Any, name: str) -> None:
    """5.4 An effect requested in a child task, or in another thread, is refused, pointing to `Parallel`."""
    await refused(way, request_, name)


@REQUESTS
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("way", asyncio_ways)
async def test_a_request_in_a_task_of_asyncio_is_refused(way: Any, request_: Any, name: str) -> None:
    """5.4 In `asyncio.gather` (and, on 3.11, `wait_for`) too."""
    await refused(way, request_, name)


if sys.version_info >= (3, 12):

    @REQUESTS
    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    @pytest.mark.parametrize("way", [in_task_group, in_gather, in_create_task])
    async def test_a_request_in_an_eager_task_is_refused(way: Any, request_: Any, name: str) -> None:
        """5.4 Also under eager tasks, which run within a step of the strand."""
        loop = asyncio.get_running_loop()
        before = loop.get_task_factory()
        loop.set_task_factory(asyncio.eager_task_factory)
        try:
            await refused(way, request_, name)
        finally:
            loop.set_task_factory(before)

    @pytest.mark.parametrize("anyio_backend", ["asyncio"])
    async def test_wait_for_is_a_scope_of_the_body() -> None:
        """5.4 From 3.12 on `asyncio.wait_for` runs in the same task: what it awaits is the strand's own."""

        @computation
        async def body() -> int:
            return await asyncio.wait_for(_awaiting(Double(2)), 5)

        assert await run(body(), Double.handled_by(double_later)) == 4


async def test_the_strand_goes_on_while_its_children_do_their_own_work() -> None:
    """5.4 Child tasks that request nothing are nobody's business; the body may request effects beside them."""
    seen: list[str] = []

    async def child(name: str) -> None:
        for _ in range(3):
            await anyio.lowlevel.checkpoint()
        seen.append(name)

    @computation
    async def body() -> Effectful[list[int]]:
        first = second = 0
        async with anyio.create_task_group() as group:
            group.start_soon(child, "a")
            first = yield Double(1)
            group.start_soon(child, "b")
            second = await Double(2)
        yield Return([first, second])

    assert await run(body(), Double.handled_by(double_later)) == [2, 4]
    assert sorted(seen) == ["a", "b"]


async def test_an_effect_is_awaited_in_computations_only() -> None:
    """5.4 Outside any computation awaiting an effect, or a recipe, is an error that says how to run it."""
    for request, name in ((Charge(), "Charge"), (pay(), "pay")):
        with pytest.raises(OutsideStrandError) as caught:
            await _awaiting(request)
        assert name in caught.value.request
        assert "await run(comp(...), *handlers)" in str(caught.value)


async def test_a_task_that_outlives_its_run_requests_nothing() -> None:
    """5.4 A task that the body left behind is refused after the run has ended, with the same message."""
    errors: list[BaseException] = []
    ended = anyio.Event()

    async def child() -> None:
        await ended.wait()
        try:
            await Charge()
        except BaseException as error:  # noqa: BLE001 - whatever it is
            errors.append(error)

    async with anyio.create_task_group() as group:

        @computation
        async def body() -> Effectful[int]:
            group.start_soon(child)
            yield Return(1)

        assert await run(body(), *Bank().handlers()) == 1
        ended.set()

    assert len(errors) == 1
    assert "Charge" in str(errors[0])
    assert "child task" in str(errors[0]) or "outside a computation" in str(errors[0])


async def test_a_thread_of_its_own_requests_nothing() -> None:
    """5.4 A thread that was started by hand has no strand at all."""
    errors: list[BaseException] = []

    def step(effect: Effect[Any]) -> None:
        try:
            next(effect.__await__())
        except BaseException as error:  # noqa: BLE001 - whatever it is
            errors.append(error)

    @computation
    async def body() -> Effectful[None]:
        thread = threading.Thread(target=step, args=(Refund(),))
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        yield Double(1)

    await run(body(), Double.handled_by(double_later))
    assert len(errors) == 1
    assert "Refund" in str(errors[0])


async def test_two_runs_side_by_side_keep_apart() -> None:
    """5.4 Each run has its own strand: two of them in two tasks do not disturb each other."""
    answers: dict[int, int] = {}

    @computation
    async def body(n: int) -> Effectful[int]:
        total = 0
        for _ in range(10):
            total += yield Double(n)
            total += await Double(n)
        yield Return(total)

    async def one(n: int) -> None:
        answers[n] = await run(body(n), Double.handled_by(double_later))

    async with anyio.create_task_group() as group:
        for n in range(5):
            group.start_soon(one, n)

    assert answers == {n: 40 * n for n in range(5)}
    assert sniffio.current_async_library() in {"asyncio", "trio"}
