"""5.8: what stops a strand stays, whatever its body catches."""

from typing import Any

import anyio
import pytest

from skuld_async import (
    Effectful,
    EndlessUnwindError,
    MissingReturnError,
    RequestAfterReturnError,
    Return,
    UnhandledEffectError,
    computation,
    run,
)
from skuld_async._signals import Fault, RunCancel, Signal, Suspend
from skuld_async._strand import Strand

from .parts import Bank, Charge, Double, Refund, Slow


@computation
async def retries_by_yield() -> Effectful[str]:
    for _ in range(3):
        try:
            yield Double(1)  # nothing handles it
            break
        except Exception:  # noqa: BLE001, S110 - "be robust"
            pass
        except BaseException:  # noqa: BLE001, S110 - "be even more robust"
            pass
    try:
        yield Charge()
    except BaseException:  # noqa: BLE001, S110
        pass
    yield Return("completed")


@computation
async def retries_by_await() -> str:
    for _ in range(3):
        try:
            await Double(1)
            break
        except BaseException:  # noqa: BLE001, S110
            pass
    try:
        await Charge()
    except BaseException:  # noqa: BLE001, S110
        pass
    return "completed"


@computation
async def asks_a_sub_computation() -> Effectful[str]:
    @computation
    async def charge() -> Effectful[str]:
        yield Return((yield Charge()))

    try:
        yield Double(1)
    except BaseException:  # noqa: BLE001, S110
        pass
    try:
        yield charge()
    except BaseException:  # noqa: BLE001, S110
        pass
    try:
        await charge()
    except BaseException:  # noqa: BLE001, S110
        pass
    yield Return("completed")


@computation
async def in_a_task_group() -> Effectful[str]:
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep_forever)
            yield Double(1)
    except BaseExceptionGroup:  # the signal is inside
        pass
    try:
        yield Charge()
    except BaseException:  # noqa: BLE001, S110
        pass
    yield Return("completed")


@computation
async def in_a_callee() -> Effectful[str]:
    for part in (retries_by_yield, retries_by_await):
        try:
            yield part()
        except BaseException:  # noqa: BLE001, S110
            pass
    try:
        yield Charge()
    except BaseException:  # noqa: BLE001, S110
        pass
    yield Return("completed")


@computation
async def returns_inside_the_except() -> Effectful[str]:
    try:
        yield Double(1)
    except BaseException:  # noqa: BLE001
        yield Return("completed")


@computation
async def raises_something_else() -> Effectful[str]:
    try:
        yield Double(1)
    except BaseException:  # noqa: BLE001
        message = "instead"
        raise ValueError(message) from None


@computation
async def cleans_up_with_effects() -> Effectful[str]:
    try:
        yield Double(1)
    finally:
        yield Charge()


@pytest.mark.parametrize(
    "body",
    [
        retries_by_yield,
        retries_by_await,
        asks_a_sub_computation,
        in_a_task_group,
        in_a_callee,
        returns_inside_the_except,
        raises_something_else,
        cleans_up_with_effects,
    ],
    ids=lambda body: str(body.name).rpartition(":")[2],
)
async def test_what_stopped_a_strand_stays(body: Any) -> None:
    """5.8 Control signals are sticky: every further request raises them again, and the pump decides the outcome."""
    bank = Bank()

    with pytest.raises(UnhandledEffectError, match="nothing handles Double"):
        await run(body(), *bank.handlers())

    assert bank.performed == []


async def test_no_ensure_runs_after_a_deployment_error() -> None:
    """5.8 Not even `ensure` performs effects once the deployment is at fault: after the fix, the run goes on."""
    bank = Bank()

    with pytest.raises(UnhandledEffectError):
        await run(retries_by_yield().ensure(Refund()), *bank.handlers())
    assert bank.performed == []


async def test_the_first_deployment_error_is_the_outcome() -> None:
    """5.8 The first one decides: what the body provokes later does not replace it."""

    @computation
    async def body() -> Effectful[int]:
        try:
            yield Double(1)
        except BaseException:  # noqa: BLE001, S110
            pass
        try:
            yield 3  # type: ignore[misc]  # pyright: ignore[reportReturnType]
        except BaseException:  # noqa: BLE001, S110
            pass
        try:
            yield Refund()
        except BaseException:  # noqa: BLE001, S110
            pass

    with pytest.raises(UnhandledEffectError, match="nothing handles Double"):
        await run(body())


@pytest.mark.parametrize("kind", [RequestAfterReturnError, MissingReturnError])
async def test_every_misuse_sticks(kind: type[Exception]) -> None:
    """5.8 A misuse in a sub-computation stops the whole strand."""
    bank = Bank()

    @computation
    async def wrong() -> Effectful[int]:
        if kind is RequestAfterReturnError:
            yield Return(1)
            yield Charge()

    @computation
    async def body() -> Effectful[int]:
        try:
            yield wrong()
        except BaseException:  # noqa: BLE001, S110
            pass
        yield Refund()
        yield Return(1)

    with pytest.raises(kind):
        await run(body(), *bank.handlers())
    assert bank.performed == []


async def test_a_body_that_never_stops_catching_is_abandoned() -> None:
    """5.8 A body that goes on requesting, whatever is raised, is abandoned after many refusals, with its line."""
    bank = Bank()
    tries = 0

    @computation
    async def body() -> Effectful[None]:
        nonlocal tries
        while tries < 100_000:
            tries += 1
            try:
                yield Double(1)
            except GeneratorExit:
                raise
            except BaseException:  # noqa: BLE001, S110
                pass
        yield Charge()

    with pytest.raises(EndlessUnwindError) as caught:
        await run(body(), *bank.handlers())

    assert 1_000 < tries < 1_100
    assert bank.performed == []
    assert f"{__file__}:" in caught.value.line
    assert "catch Exception" in str(caught.value)


async def test_a_coroutine_body_that_never_stops_catching_is_abandoned() -> None:
    """5.8 So is one that awaits."""
    tries = 0

    @computation
    async def body() -> None:
        nonlocal tries
        while tries < 100_000:
            tries += 1
            try:
                await Double(1)
            except GeneratorExit:
                raise
            except BaseException:  # noqa: BLE001, S110
                pass

    with pytest.raises(EndlessUnwindError):
        await run(body())
    assert 1_000 < tries < 1_100


async def test_an_abandoned_body_is_closed_with_its_callers() -> None:
    """5.8 Those that called it unwind in the ordinary way."""
    left: list[str] = []

    @computation
    async def endless() -> Effectful[None]:
        for _ in range(5_000):
            try:
                yield Double(1)
            except GeneratorExit:
                left.append("closed")
                raise
            except BaseException:  # noqa: BLE001, S110
                pass

    @computation
    async def caller() -> Effectful[None]:
        try:
            yield endless()
        finally:
            left.append("caller")

    with pytest.raises(EndlessUnwindError):
        await run(caller())
    assert sorted(left) == ["caller", "closed"]


@pytest.mark.parametrize("by_yield", [True, False], ids=["yield", "await"])
@pytest.mark.parametrize("in_handler", [True, False], ids=["handler", "callee"])
async def test_an_endless_handler_or_callee_is_abandoned(in_handler: bool, by_yield: bool) -> None:
    """5.8 So is a handler that goes on requesting, and a callee: who asked for it unwinds in the ordinary way."""
    tries = 0
    left: list[str] = []

    async def endless() -> str:
        nonlocal tries
        while tries < 100_000:
            tries += 1
            try:
                await Double(1)
            except GeneratorExit:
                raise
            except BaseException:  # noqa: BLE001, S110
                pass
        return "never"

    async def handler(_effect: Charge) -> str:
        return await endless()

    request = Charge() if in_handler else computation(endless)()

    @computation
    async def yielding() -> Effectful[str]:
        try:
            yield Return((yield request))
        finally:
            left.append("caller")

    @computation
    async def awaiting() -> str:
        try:
            return await request
        finally:
            left.append("caller")

    with pytest.raises(EndlessUnwindError):
        await run(yielding() if by_yield else awaiting(), Charge.handled_by(handler))
    assert 1_000 < tries < 1_100
    assert left == ["caller"]


async def test_a_cancellation_does_not_hide_a_deployment_error() -> None:
    """5.8 Where a strand is cancelled while it unwinds from a deployment error, the latter is the outcome."""

    async def slow(_effect: Slow) -> str:
        await anyio.sleep_forever()
        raise AssertionError

    @computation
    async def body() -> Effectful[None]:
        try:
            yield Double(1)
        finally:
            await anyio.sleep_forever()

    with anyio.move_on_after(0.01), pytest.raises(UnhandledEffectError):
        await run(body(), Slow.handled_by(slow))


async def test_signals_are_no_exceptions_and_have_ranks() -> None:
    """5.8 Signals are private BaseExceptions; a deployment error outranks a suspension, which outranks a cancel."""
    fault = Fault(MissingReturnError("comp", "int", "file.py:1"))
    strand = Strand("run", "seed")
    for signal in (RunCancel(), Suspend(), RunCancel(), fault, Suspend()):
        strand.stop(signal)
    assert strand.sticky is fault
    strand.stop(Fault(MissingReturnError("later", "int", "file.py:2")))
    assert strand.sticky is fault
    assert not issubclass(Signal, Exception)
