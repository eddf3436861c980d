"""5.2: how a body ends."""

import anyio
import pytest

from skuld_async import (
    Definition,
    Effectful,
    MissingReturnError,
    RequestAfterReturnError,
    Return,
    computation,
    run,
)

from .parts import Bank, Charge, Transaction


async def test_return_ends_a_body_with_its_value() -> None:
    """5.2 `yield Return(value)` ends a body."""

    @computation
    async def body() -> Effectful[int]:
        yield Return(42)

    assert await run(body()) == 42


async def test_return_lets_blocks_exit_normally() -> None:
    """5.2 The body is resumed only so that it can end: a transaction commits, plain `finally` runs."""
    transaction = Transaction()
    ended: list[str] = []

    @computation
    async def body() -> Effectful[int]:
        try:
            async with transaction:
                yield Return(1)
            ended.append("after the block")
        finally:
            ended.append("finally")

    assert await run(body()) == 1
    assert transaction.left == "committed"
    assert ended == ["after the block", "finally"]


async def test_a_body_that_returned_may_still_await_the_event_loop() -> None:
    """5.2 After `Return` ordinary awaits work: blocks exit through the event loop."""
    exited: list[str] = []

    @computation
    async def body() -> Effectful[int]:
        async with anyio.create_task_group() as group:
            group.start_soon(child)
            yield Return(1)
        await anyio.lowlevel.checkpoint()
        exited.append("group")

    async def child() -> None:
        await anyio.lowlevel.checkpoint()
        exited.append("child")

    assert await run(body()) == 1
    assert exited == ["child", "group"]


@computation
async def pay() -> Effectful[str]:
    yield Return((yield Charge()))


@computation
async def yields_an_effect() -> Effectful[int]:
    yield Return(1)
    yield Charge()


@computation
async def awaits_an_effect() -> Effectful[int]:
    yield Return(1)
    await Charge()


@computation
async def yields_a_computation() -> Effectful[int]:
    yield Return(1)
    yield pay()


@computation
async def awaits_a_computation() -> Effectful[int]:
    yield Return(1)
    await pay()


@computation
async def returns_twice() -> Effectful[int]:
    yield Return(1)
    yield Return(2)


AFTER_RETURN = [
    (yields_an_effect, "Charge", 2),
    (awaits_an_effect, "Charge", 2),
    (yields_a_computation, "pay", 2),
    (awaits_a_computation, "pay", 2),
    (returns_twice, "Return", 2),
]


@pytest.mark.parametrize("nested", [False, True], ids=["outermost", "nested"])
@pytest.mark.parametrize(("body", "request_", "offset"), AFTER_RETURN)
async def test_nothing_is_requested_after_return(
    body: Definition[[], int], request_: str, offset: int, nested: bool
) -> None:
    """5.2 An effect after `Return` is refused at that line, with the fix: no forgotten `return` charges."""
    bank = Bank()

    @computation
    async def outer() -> Effectful[int]:
        yield Return((yield body()))

    with pytest.raises(RequestAfterReturnError) as caught:
        await run(outer() if nested else body(), *bank.handlers())

    assert bank.performed == []
    assert request_ in caught.value.request
    line = body.__wrapped__.__code__.co_firstlineno + offset + 1
    assert caught.value.line == f"{__file__}:{line}"
    assert "yield Return(result)\n" in str(caught.value)
    assert "                    return\n" in str(caught.value)


async def test_the_refusal_after_return_cannot_be_caught() -> None:
    """5.2 Swallowing the refusal does not turn the run into a completed one."""
    bank = Bank()

    @computation
    async def body() -> Effectful[int]:
        yield Return(1)
        try:
            yield Charge()
        except BaseException:  # noqa: BLE001, S110 - that is the point
            pass

    with pytest.raises(RequestAfterReturnError):
        await run(body(), *bank.handlers())
    assert bank.performed == []


async def test_effects_in_a_finally_around_return_are_refused() -> None:
    """5.2 `finally` runs after `Return`, its effects do not: cleanup with effects is `ensure`."""
    bank = Bank()

    @computation
    async def body() -> Effectful[int]:
        try:
            yield Return(1)
        finally:
            yield Charge()

    with pytest.raises(RequestAfterReturnError):
        await run(body(), *bank.handlers())
    assert bank.performed == []


async def test_one_body_returning_closes_no_other() -> None:
    """5.2 `Return` ends the body that yields it: its caller goes on."""

    @computation
    async def body() -> Effectful[list[str]]:
        first = yield pay()
        second = yield Charge(2)
        yield Return([first, second])

    bank = Bank()
    assert await run(body(), *bank.handlers()) == ["charged 1", "charged 2"]


async def test_ending_without_return_gives_none() -> None:
    """5.2 Ending without `Return` gives `None`, where the declared result admits it."""

    @computation
    async def silent() -> Effectful[None]:
        yield Charge()

    @computation
    async def maybe(*, answer: bool) -> Effectful[int | None]:
        if answer:
            yield Return(1)

    bank = Bank()

    @computation
    async def body() -> Effectful[tuple[object, object, object]]:
        one = yield silent()
        two = yield maybe(answer=False)
        three = await maybe(answer=True)
        yield Return((one, two, three))

    assert await run(body(), *bank.handlers()) == (None, None, 1)


async def test_a_missing_return_is_an_error_where_the_result_excludes_none() -> None:
    """5.2 Where `T` excludes None, ending without `Return` is `MissingReturnError`, whatever a caller catches."""

    @computation
    async def forgetful(*, decided: bool) -> Effectful[int]:
        if decided:
            yield Return(1)

    @computation
    async def outer() -> Effectful[int]:
        try:
            yield forgetful(decided=False)
        except BaseException:  # noqa: BLE001, S110 - that is the point
            pass
        yield Return(0)

    for comp in (forgetful(decided=False), outer()):
        with pytest.raises(MissingReturnError) as caught:
            await run(comp)
        assert "forgetful" in caught.value.computation
        assert caught.value.declared == "int"
        assert "yield Return(value)" in str(caught.value)
