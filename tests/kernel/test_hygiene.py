"""What a run leaves behind: no warning, no task, no variable; runs inside runs."""

import contextvars
import subprocess
import sys
import textwrap
from typing import Any

import anyio
import pytest

from skuld_async import Effectful, Return, UnhandledEffectError, computation, current_call, run
from skuld_async._context import current_strand

from .parts import Bank, Charge, Double, Refund, double_later

SCRIPT = """
    import asyncio, gc, sys, anyio
    from skuld_async import *

    class Ask(Effect[int], frozen=True): ...
    class Slow(Effect[int], frozen=True): ...
    class Boom(Effect[int], frozen=True): ...

    async def ask(_):
        await anyio.sleep(0)
        return 1

    async def slow(_):
        await anyio.sleep_forever()

    async def boom(_):
        raise ValueError("v")

    HANDLERS = [Ask.handled_by(ask), Slow.handled_by(slow), Boom.handled_by(boom)]

    @computation
    async def awaits(effect) -> int:
        try:
            return await effect
        finally:
            await anyio.sleep(0)

    @computation
    async def yields(effect, deep=2) -> Effectful[int]:
        try:
            yield Return((yield effect if deep == 0 else yields(effect, deep - 1)))
        finally:
            await anyio.sleep(0)

    @computation
    async def no_effect() -> Effectful[int]:
        yield awaits(Ask()).__await__()

    @computation
    async def plain_coroutine() -> Effectful[int]:
        yield anyio.sleep(1)

    class Nobody(Effect[int], frozen=True): ...

    async def main():
        if sys.argv[1] == "asyncio":
            asyncio.get_running_loop().slow_callback_duration = 60  # how busy this machine is does not matter here
        never_run = yields(Ask()), awaits(Ask())
        for kind in (awaits, yields):
            assert await run(kind(Ask()), *HANDLERS) == 1
            with anyio.move_on_after(0.01) as scope:
                await run(kind(Slow()).ensure(Ask()), *HANDLERS)
            assert scope.cancelled_caught
            for effect in (Boom(), Nobody()):
                try:
                    await run(kind(effect).ensure(Ask()), *HANDLERS)
                except (ValueError, UnhandledEffectError):
                    pass
                else:
                    raise AssertionError
        for misuse in (no_effect, plain_coroutine):
            try:
                await run(misuse(), *HANDLERS)
            except NotAnEffectError:
                pass
            else:
                raise AssertionError
        gc.collect()
        await anyio.sleep(0)

    anyio.run(main, backend=sys.argv[1], backend_options={"debug": True} if sys.argv[1] == "asyncio" else {})
    gc.collect()
    print("done")
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_warning_is_left_behind(backend: str) -> None:
    """No coroutine is never awaited, no generator is destroyed half-run: with asyncio's debug mode on."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", textwrap.dedent(SCRIPT), backend],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout == "done\n"


colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


async def test_body_and_handlers_share_the_callers_context() -> None:
    """Bodies, their callees and handlers run in the context of the caller: what one sets, the others see."""
    seen: list[str] = []

    async def charge(_effect: Charge) -> str:
        seen.append(colour.get())
        colour.set("by the handler")
        await anyio.lowlevel.checkpoint()
        return "charged"

    @computation
    async def callee() -> Effectful[None]:
        seen.append(colour.get())
        colour.set("by the callee")
        yield Charge()

    @computation
    async def body() -> Effectful[None]:
        seen.append(colour.get())
        colour.set("by the body")
        yield callee()
        seen.append(colour.get())

    token = colour.set("by the caller")
    try:
        await run(body(), Charge.handled_by(charge))
        assert seen == ["by the caller", "by the body", "by the callee", "by the handler"]
        assert colour.get() == "by the handler"
    finally:
        colour.reset(token)


async def test_the_strand_is_forgotten_after_the_run() -> None:
    """After `run`, however it ends, no strand is current."""

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield Charge()))

    assert current_strand.get() is None
    await run(body(), Charge.always("c"))
    assert current_strand.get() is None
    with pytest.raises(UnhandledEffectError):
        await run(body())
    assert current_strand.get() is None
    with pytest.raises(RuntimeError, match=r"current_call\(\) is awaited outside a computation"):
        current_call()


@computation
async def pay(n: int) -> Effectful[str]:
    yield Return((yield Charge(n)))


@computation
async def asks_for_what_nobody_handles() -> Effectful[str]:
    yield Return((yield Refund()))


@computation
async def runs_inside(comp: Any, handlers: Any) -> Effectful[list[Any]]:
    before = yield Charge(1)
    try:
        inside = await run(comp, *handlers)
    except UnhandledEffectError as error:
        inside = f"refused: {error.effect}"
    after = yield Charge(2)
    also = await Charge(3)
    yield Return([before, inside, after, also])


async def test_a_run_inside_a_body() -> None:
    """`run` inside a body is a run of its own, with its own handlers; the body's own requests go on afterwards."""
    outer, inner = Bank(), Bank()

    answer = await run(runs_inside(pay(9), inner.handlers()), *outer.handlers())

    assert answer == ["charged 1", "charged 9", "charged 2", "charged 3"]
    assert (outer.performed, inner.performed) == (["charge 1", "charge 2", "charge 3"], ["charge 9"])


async def test_a_run_inside_does_not_stop_the_one_around_it() -> None:
    """What stops the inner run is an ordinary error for the body around it: signals stick to their own strand."""
    outer = Bank()
    answer = await run(runs_inside(asks_for_what_nobody_handles(), []), *outer.handlers())
    assert answer == ["charged 1", "refused: Refund", "charged 2", "charged 3"]


@pytest.mark.parametrize("depth", [1, 3])
async def test_a_run_inside_a_handler(depth: int) -> None:
    """`run` inside a handler is a run of its own; afterwards the handler's requests belong to the outer one again."""
    keys: list[str] = []
    bank = Bank()

    async def total(effect: Double) -> int:
        outside = current_call().key
        keys.append(outside)
        await Charge(effect.n)
        if effect.n:
            inner = await run(again(effect.n - 1), Double.handled_by(total), *bank.handlers())
        else:
            inner = 0
        assert current_call().key == outside
        await Charge(100 + effect.n)
        return inner + 1

    @computation
    async def again(n: int) -> Effectful[int]:
        yield Return((yield Double(n)))

    assert await run(again(depth), Double.handled_by(total), *bank.handlers()) == depth + 1
    assert len({key.partition("/")[0] for key in keys}) == depth + 1
    assert {key.partition("/")[2] for key in keys} == {"0/1"}
    down = [f"charge {n}" for n in range(depth, -1, -1)]
    up = [f"charge {100 + n}" for n in range(depth + 1)]
    assert bank.performed == down + up


async def test_a_cancelled_run_inside_leaves_the_outer_one_whole() -> None:
    """Cancelling an inner run by a scope of the body: the outer one goes on."""

    async def slow(_effect: Refund) -> str:
        await anyio.sleep_forever()
        raise AssertionError

    @computation
    async def inner() -> Effectful[str]:
        yield Return((yield Refund()))

    @computation
    async def body() -> Effectful[list[int]]:
        first = yield Double(1)
        with anyio.move_on_after(0.01):
            await run(inner(), Refund.handled_by(slow))
        second = yield Double(2)
        yield Return([first, second])

    assert await run(body(), Double.handled_by(double_later)) == [2, 4]


async def test_a_run_may_be_started_by_hand_in_a_task_group() -> None:
    """Runs started in a body's task group are runs of their own tasks."""
    bank = Bank()

    async def pay_apart(n: int) -> None:
        await run(pay(n), *bank.handlers())

    @computation
    async def body() -> Effectful[str]:
        answer = 0
        async with anyio.create_task_group() as group:
            for n in range(3):
                group.start_soon(pay_apart, n)
            answer = yield Double(1)
        yield Return(f"{answer}")

    assert await run(body(), Double.handled_by(double_later)) == "2"
    assert sorted(bank.performed) == ["charge 0", "charge 1", "charge 2"]
