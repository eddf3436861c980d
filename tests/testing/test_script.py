"""Script: the exact effects that a computation is expected to request, with their answers."""

import pytest

from skuld_async import (
    Completed,
    DeploymentError,
    Effect,
    Effectful,
    Failed,
    Return,
    Suspended,
    UnhandledEffectError,
    Yield,
    computation,
    port,
    resume,
    run,
    start,
)
from skuld_async.testing import Script, ScriptError


class Charge(Effect[str], frozen=True):
    cents: int


class Ship(Effect[str], frozen=True):
    order: str
    fast: bool = False


class Ask(Yield[str], frozen=True):
    pass


@port
async def quote(item: str, count: int = 1) -> int:
    raise AssertionError(item)


@computation
async def order(cents: int) -> Effectful[str]:
    price = yield quote("lamp")
    receipt = yield Charge(cents * price)
    try:
        parcel = yield Ship("o-1")
    except ConnectionError:
        parcel = yield Ship("o-1", fast=True)
    yield Return(f"{receipt} {parcel}")


async def test_each_request_is_the_next_line() -> None:
    """Effects and port calls, in order, each with its answer; `done` says that nothing was left out."""
    script = Script([(quote("lamp"), 3), (Charge(6), "paid"), (Ship("o-1"), "sent")])
    assert await run(order(2), script) == "paid sent"
    script.done()


async def test_an_exception_is_raised() -> None:
    """A line whose answer is an exception raises it at the request."""
    script = Script(
        [
            (quote("lamp"), 3),
            (Charge(6), "paid"),
            (Ship("o-1"), ConnectionError("down")),
            (Ship("o-1", fast=True), "sent"),
        ]
    )
    outcome = await start(order(2), script)
    assert isinstance(outcome, Completed)
    assert outcome.value == "paid sent"
    script.done()

    outcome = await start(order(2), Script([(quote("lamp"), 3), (Charge(6), RuntimeError("no"))]))
    assert isinstance(outcome, Failed)
    assert outcome.error.args == ("no",)


async def test_another_request_is_refused() -> None:
    """A mismatch is an error of the test, not of the run: it names line, expected and received, and nothing goes on."""
    script = Script([(quote("lamp"), 3), (Charge(7), "paid"), (Ship("o-1"), "sent")])
    with pytest.raises(ScriptError) as caught:
        await start(order(2), script)
    assert str(caught.value).startswith("line 2 of the script expects Charge(cents=7)")
    assert (caught.value.expected, caught.value.received, caught.value.position) == (
        "Charge(cents=7)",
        "Charge(cents=6)",
        2,
    )
    assert isinstance(caught.value, DeploymentError)


async def test_another_order_is_refused() -> None:
    """The order of the lines counts, over all the classes that the script names."""
    script = Script([(Charge(6), "paid"), (quote("lamp"), 3), (Ship("o-1"), "sent")])
    with pytest.raises(ScriptError, match=r"line 1 .* expects Charge\(cents=6\).* requests quote\(item='lamp'"):
        await run(order(2), script)


async def test_a_body_cannot_swallow_it() -> None:
    """5.8 A computation that catches everything does not get past its script."""

    @computation
    async def catches() -> Effectful[str]:
        try:
            yield Charge(1)
        except BaseException:  # noqa: BLE001, S110 - the point of the test
            pass
        yield Return("fine")

    with pytest.raises(ScriptError):
        await run(catches(), Script([(Charge(2), "paid")]))


async def test_a_request_behind_the_last_line_is_refused() -> None:
    """One more request than lines."""
    script = Script([(quote("lamp"), 3), (Charge(6), "paid"), (Ship("o-2"), "sent")])

    @computation
    async def twice() -> Effectful[None]:
        yield Charge(6)
        yield Charge(6)

    script = Script([(Charge(6), "paid")])
    with pytest.raises(ScriptError, match="line 2 of the script expects nothing more"):
        await run(twice(), script)


async def test_done_names_the_line_that_was_not_requested() -> None:
    """`done` after a run that requested too little."""
    script = Script([(quote("lamp"), 3), (Charge(6), "paid"), (Ship("o-1"), "sent"), (Ship("o-2"), "sent")])
    await run(order(2), script)
    with pytest.raises(ScriptError, match=r"line 4 .* expects Ship\(order='o-2', fast=False\).* requests nothing more"):
        script.done()


async def test_what_the_script_does_not_name_is_not_handled() -> None:
    """Other effects belong to other handlers."""
    with pytest.raises(UnhandledEffectError):
        await run(order(2), Script([(quote("lamp"), 3)]))
    assert await run(order(2), Ship.always("sent"), Script([(quote("lamp"), 3), (Charge(6), "paid")])) == "paid sent"


async def test_a_script_goes_on_over_a_suspension() -> None:
    """What the log answers does not use a line: one script serves a run from its start to its end."""

    @computation
    async def asks() -> Effectful[str]:
        receipt = yield Charge(1)
        where = yield Ask()
        parcel = yield Ship(where)
        yield Return(f"{receipt} {parcel}")

    script = Script([(Charge(1), "paid"), (Ship("Oslo"), "sent")])
    outcome = await start(asks(), script)
    assert isinstance(outcome, Suspended)
    ended = await resume(asks(), outcome.log, script, answer="Oslo")
    assert isinstance(ended, Completed)
    script.done()
