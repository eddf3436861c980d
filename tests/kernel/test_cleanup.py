"""5.3: cleanup that needs effects. That none is done at a suspension is tested with the log."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from skuld_async import Computation, Effect, Effectful, Handler, Return, bracket, computation, run

from .parts import Boom, Slow, boom, too_slow


class Reserve(Effect[str], frozen=True):
    room: str


class Cancel(Effect[None], frozen=True):
    room: str


class Hotel:
    """Reserves rooms, slowly, and says what it did."""

    def __init__(self) -> None:
        self.did: list[str] = []

    async def reserve(self, effect: Reserve) -> str:
        await anyio.lowlevel.checkpoint()
        self.did.append(f"reserve {effect.room}")
        return effect.room

    async def cancel(self, effect: Cancel) -> None:
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        self.did.append(f"cancel {effect.room}")

    def handlers(self) -> list[Handler]:
        return [
            Reserve.handled_by(self.reserve),
            Cancel.handled_by(self.cancel),
            Slow.handled_by(too_slow),
            Boom.handled_by(boom),
        ]


@computation
async def meet(hotel: Hotel, room: str) -> Effectful[str]:
    hotel.did.append(f"meet in {room}")
    yield Return(f"met in {room}")


@computation
async def quarrel(room: str) -> Effectful[str]:
    yield Boom(ValueError(f"quarrel in {room}"))


@computation
async def wait_in(_room: str) -> Effectful[str]:
    yield Return((yield Slow()))


@computation
async def cancel_twice(room: str) -> Effectful[None]:
    yield Cancel(room)
    await Cancel(room)


def cancel_by_effect(room: str) -> Effect[None]:
    return Cancel(room)


RELEASES = pytest.mark.parametrize(
    ("release", "released"),
    [(cancel_by_effect, ["cancel a"]), (cancel_twice, ["cancel a", "cancel a"])],
    ids=["effect", "computation"],
)

Release = Callable[[str], Computation[Any] | Effect[Any]]


@RELEASES
async def test_bracket_releases_at_return(release: Release, released: list[str]) -> None:
    """5.3 `yield bracket(acquire, use, release)`: released at return; the value is that of the use."""
    hotel = Hotel()

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield bracket(Reserve("a"), lambda room: meet(hotel, room), release)))

    assert await run(body(), *hotel.handlers()) == "met in a"
    assert hotel.did == ["reserve a", "meet in a", *released]


@RELEASES
async def test_bracket_releases_at_an_error(release: Release, released: list[str]) -> None:
    """5.3 Released at an error, which goes on."""
    hotel = Hotel()

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield bracket(Reserve("a"), quarrel, release)))

    with pytest.raises(ValueError, match="quarrel in a"):
        await run(body(), *hotel.handlers())
    assert hotel.did == ["reserve a", *released]


@RELEASES
async def test_bracket_releases_when_the_caller_is_cancelled(release: Release, released: list[str]) -> None:
    """5.3 Released when `run` is cancelled from outside: shielded from the scope that was cancelled."""
    hotel = Hotel()

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield bracket(Reserve("a"), wait_in, release)))

    with anyio.move_on_after(0.01) as scope:
        await run(body(), *hotel.handlers())

    assert scope.cancelled_caught
    assert hotel.did == ["reserve a", *released]


@RELEASES
async def test_bracket_releases_when_a_scope_of_the_body_is_cancelled(release: Release, released: list[str]) -> None:
    """5.3 Released when a cancel scope of the body fires around it; the body goes on after its scope."""
    hotel = Hotel()

    @computation
    async def body() -> Effectful[str]:
        with anyio.move_on_after(0.01):
            yield bracket(Reserve("a"), wait_in, release)
        yield Reserve("b")
        yield Return("went on")

    assert await run(body(), *hotel.handlers()) == "went on"
    assert hotel.did == ["reserve a", *released, "reserve b"]


async def test_bracket_releases_when_a_cancelled_body_raises_something_else() -> None:
    """5.3 Released, shielded, also where the cancelled use turns its cancellation into another error."""
    hotel = Hotel()

    @computation
    async def stubborn(_room: str) -> Effectful[str]:
        try:
            yield Slow()
        except BaseException as error:
            message = "instead"
            raise ValueError(message) from error

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield bracket(Reserve("a"), stubborn, cancel_twice)))

    with anyio.move_on_after(0.01), pytest.raises(ValueError, match="instead"):
        await run(body(), *hotel.handlers())
    assert hotel.did == ["reserve a", "cancel a", "cancel a"]


async def test_bracket_releases_what_was_acquired_even_if_no_use_can_be_made() -> None:
    """5.3 Whatever happens after acquiring, what was acquired is released: here making the use fails."""
    hotel = Hotel()

    def use(room: str) -> Computation[str]:
        raise KeyError(room)

    with pytest.raises(KeyError, match="a"):
        await run(bracket(Reserve("a"), use, cancel_by_effect), *hotel.handlers())
    assert hotel.did == ["reserve a", "cancel a"]


async def test_nothing_is_released_that_was_not_acquired() -> None:
    """5.3 Where acquiring fails, neither use nor release is called."""

    def never(_room: str) -> Computation[str]:
        raise AssertionError

    with pytest.raises(OSError, match="full"):
        await run(bracket(Boom(OSError("full")), never, never), Boom.handled_by(boom))


async def test_brackets_nest() -> None:
    """5.3 Inner resources are released before outer ones."""
    hotel = Hotel()
    both = bracket(
        Reserve("a"),
        lambda _outer: bracket(Reserve("b"), lambda room: meet(hotel, room), cancel_by_effect),
        cancel_by_effect,
    )

    assert await run(both, *hotel.handlers()) == "met in b"
    assert hotel.did == ["reserve a", "reserve b", "meet in b", "cancel b", "cancel a"]


async def test_ensure_cleans_up_at_return_error_and_cancellation() -> None:
    """5.3 `comp.ensure(cleanup)`: run at return, error and cancellation, once each."""
    hotel = Hotel()
    assert await run(meet(hotel, "a").ensure(Cancel("a")), *hotel.handlers()) == "met in a"
    assert hotel.did == ["meet in a", "cancel a"]

    hotel = Hotel()
    with pytest.raises(ValueError, match="quarrel"):
        await run(quarrel("a").ensure(Cancel("a")), *hotel.handlers())
    assert hotel.did == ["cancel a"]

    hotel = Hotel()
    with anyio.move_on_after(0.01):
        await run(wait_in("a").ensure(cancel_twice("a")), *hotel.handlers())
    assert hotel.did == ["cancel a", "cancel a"]


async def test_a_failing_cleanup_shows_both_errors() -> None:
    """5.3 Where the cleanup fails while an error unwinds, its error goes on and the first is its context."""
    failing = quarrel("a").ensure(Boom(OSError("no line")))

    with pytest.raises(OSError, match="no line") as caught:
        await run(failing, Boom.handled_by(boom))
    assert isinstance(caught.value.__context__, ValueError)


async def test_cleanup_sees_the_scope_around_it_not_inside_it() -> None:
    """5.3 The cleanup has a frame of its own, in the scope of the line that requested the whole."""
    outer, inner = Hotel(), Hotel()
    comp = meet(inner, "a").handle(*inner.handlers()).ensure(Cancel("a"))

    await run(comp, *outer.handlers())
    assert (outer.did, inner.did) == (["cancel a"], ["meet in a"])


@pytest.mark.parametrize("by_yield", [True, False], ids=["yield", "await"])
async def test_effects_in_a_plain_finally_work_while_an_error_unwinds(by_yield: bool) -> None:
    """5.3 Effects in a plain `finally` work while an ordinary error unwinds."""
    hotel = Hotel()

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Boom(ValueError("quarrel"))
        finally:
            if by_yield:
                yield Cancel("a")
            else:
                await Cancel("a")

    with pytest.raises(ValueError, match="quarrel"):
        await run(body(), *hotel.handlers())
    assert hotel.did == ["cancel a"]


async def test_effects_in_an_exit_work_while_an_error_unwinds() -> None:
    """5.3 So they do in the exit of an `async with`, and in a coroutine body."""
    hotel = Hotel()

    @asynccontextmanager
    async def room(name: str) -> AsyncGenerator[str]:
        reserved = await Reserve(name)
        try:
            yield reserved
        finally:
            await Cancel(name)

    @computation
    async def body() -> str:
        async with room("a") as name:
            return await Boom(ValueError(f"quarrel in {name}"))

    with pytest.raises(ValueError, match="quarrel in a"):
        await run(body(), *hotel.handlers())
    assert hotel.did == ["reserve a", "cancel a"]
