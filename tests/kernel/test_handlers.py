"""5.7, 5.9 and 5.10: how handlers are called, what they see, and how long they live."""

import functools
import inspect
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from skuld_async import (
    Effect,
    Effectful,
    Handler,
    Installed,
    Observation,
    Return,
    UnawaitedAnswerError,
    UnhandledEffectError,
    computation,
    current_call,
    lifetime,
    run,
)

from .parts import Boom, Charge, Count, Double, Refund, Slow, boom, counting, double, double_later, too_slow


@computation
async def double_often(n: int) -> Effectful[int]:
    total = 0
    for _ in range(n):
        total += yield Double(1)
        total += await Double(1)
    yield Return(total)


@computation
async def nested_doubles() -> Effectful[int]:
    yield Return((yield double_often(3)) + (await double_often(3)))


async def test_sync_handlers_are_called_directly() -> None:
    """5.7 Sync handlers are called directly: a run with no others gives control to the event loop but at its end."""
    count = Count()
    assert await counting(count, run(nested_doubles(), Double.handled_by(double))) == 24
    assert count.points == 1


async def test_async_handlers_are_awaited() -> None:
    """5.7 Async handlers are awaited, and nothing but they awaits."""
    count = Count()
    one = Count()
    await counting(one, anyio.lowlevel.checkpoint())

    assert await counting(count, run(nested_doubles(), Double.handled_by(double_later))) == 24
    assert count.points == 12 * one.points + 1  # the last one is that of the run's end


class Doubler:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    async def __call__(self, effect: Double) -> int:
        await anyio.lowlevel.checkpoint()
        return self.factor * effect.n

    async def later(self, effect: Double) -> int:
        return await self(effect)

    def at_once(self, effect: Double) -> int:
        return self.factor * effect.n

    @staticmethod
    async def twice(factor: int, effect: Double) -> int:
        await anyio.lowlevel.checkpoint()
        return factor * effect.n

    @classmethod
    async def threefold(cls, effect: Double) -> int:
        return await cls(3).later(effect)


def multiply(factor: int, effect: Double) -> int:
    return factor * effect.n


@pytest.mark.parametrize(
    "function",
    [
        Doubler(3),
        Doubler(3).later,
        Doubler(3).at_once,
        Doubler.threefold,
        functools.partial(Doubler.twice, 3),
        functools.partial(functools.partial(Doubler.twice), 3),
        functools.partial(multiply, 3),
        functools.partial(Doubler(3)),
        Doubler(3).__call__,
    ],
    ids=[
        "async call",
        "async method",
        "method",
        "class method",
        "partial",
        "partial of partial",
        "sync partial",
        "partial of async call",
        "bound call",
    ],
)
async def test_any_callable_is_a_handler(function: Any) -> None:
    """5.7 Sync or async, settled when the scope is built: functions, methods, partials, objects with `__call__`."""

    @computation
    async def body() -> Effectful[list[int]]:
        yield Return([(yield Double(1)), (await Double(2))])

    assert await run(body(), Double.handled_by(function)) == [3, 6]


async def test_how_to_call_a_handler_is_settled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """5.7 Settled when the scope is built, not at each call."""
    looked: list[Any] = []
    look = inspect.iscoroutinefunction

    def look_and_count(function: Any) -> bool:
        looked.append(function)
        return look(function)

    monkeypatch.setattr(inspect, "iscoroutinefunction", look_and_count)
    for handler in (double, double_later):
        looked.clear()
        await run(double_often(1), Double.handled_by(handler))
        once = len(looked)
        looked.clear()
        await run(double_often(50), Double.handled_by(handler))
        assert len(looked) == once > 0


@pytest.mark.parametrize("by_yield", [True, False], ids=["yield", "await"])
async def test_a_sync_handler_that_gives_a_coroutine_is_refused(by_yield: bool) -> None:
    """5.7 A handler that looks sync but gives a coroutine, which nobody would await, is refused with the fix."""

    def hidden(effect: Double) -> Any:
        return double_later(effect)

    @computation
    async def yielding() -> Effectful[int]:
        yield Return((yield Double(1)))

    @computation
    async def awaiting() -> int:
        return await Double(1)

    body = yielding if by_yield else awaiting
    with pytest.raises(UnawaitedAnswerError, match="Double"):
        await run(body(), Double.handled_by(hidden))
    assert await run(body(), Double.handled_by(double_later)) == 2


# -- 5.9 -------------------------------------------------------------------------------------------------------------


class Total(Effect[str], frozen=True):
    """Its handler charges."""


@computation
async def ask_total() -> Effectful[str]:
    yield Return((yield Total()))


async def total_by_effect(_effect: Total) -> str:
    return f"total: {await Charge(5)}"


@computation
async def charge_five() -> Effectful[str]:
    yield Return((yield Charge(5)))


@computation
async def charge_five_awaiting() -> str:
    return await Charge(5)


async def total_by_computation(_effect: Total) -> str:
    return f"total: {await charge_five()}"


async def total_by_coroutine(_effect: Total) -> str:
    return f"total: {await charge_five_awaiting()}"


HANDLER_BODIES = pytest.mark.parametrize(
    "total", [total_by_effect, total_by_computation, total_by_coroutine], ids=["effect", "generator", "coroutine"]
)
ASKING = pytest.mark.parametrize("by_yield", [True, False], ids=["yield", "await"])


def asking(*, by_yield: bool) -> Any:
    @computation
    async def yielding() -> Effectful[list[str]]:
        yield Return([(yield Total()), (yield Charge(1))])

    @computation
    async def awaiting() -> list[str]:
        return [await Total(), await Charge(1)]

    return yielding() if by_yield else awaiting()


@HANDLER_BODIES
@ASKING
async def test_a_handler_sees_the_scope_in_which_it_was_installed(total: Any, by_yield: bool) -> None:
    """5.9 A handler that requests effects sees the handlers of the scope in which it was installed."""
    comp = asking(by_yield=by_yield).handle(Charge.always("inner"))

    answers = await run(comp, Total.handled_by(total), Charge.always("outer"))

    assert answers == ["total: outer", "inner"]


@HANDLER_BODIES
@ASKING
async def test_a_handler_of_an_inner_scope_sees_that_scope(total: Any, by_yield: bool) -> None:
    """5.9 Installed inside, it sees the inner handlers."""
    comp = asking(by_yield=by_yield).handle(Total.handled_by(total), Charge.always("inner"))

    assert await run(comp, Charge.always("outer")) == ["total: inner", "inner"]


@ASKING
async def test_a_handler_requesting_what_only_its_asker_handles_is_an_error(by_yield: bool) -> None:
    """5.9 What only the asker's scope handles is unhandled for it."""
    comp = asking(by_yield=by_yield).handle(Charge.always("inner"))

    with pytest.raises(UnhandledEffectError, match="Charge"):
        await run(comp, Total.handled_by(total_by_effect))


@ASKING
async def test_what_a_handler_requests_lives_under_the_id_of_its_effect(by_yield: bool) -> None:
    """5.9 Its entries live under the id of the effect that it answers, and do not move the counter of who asked."""
    ids: list[tuple[str, str]] = []

    def watch(observation: Observation) -> None:
        request = observation.request
        ids.append((type(request.effect).__name__, request.id))

    async def total(_effect: Total) -> str:
        await Charge(1)
        await charge_five()
        await Charge(3)
        return "total"

    @computation
    async def yielding() -> Effectful[None]:
        yield Charge(0)
        yield Total()
        yield Charge(9)
        yield Total()

    @computation
    async def awaiting() -> None:
        await Charge(0)
        await Total()
        await Charge(9)
        await Total()

    body = yielding if by_yield else awaiting
    await run(body(), Total.handled_by(total), Charge.always("c"), observe=[watch])

    assert ids == [
        ("Charge", "0/1"),
        ("Charge", "0/2/1"),
        ("Charge", "0/2/3"),
        ("Charge", "0/2/4"),
        ("Total", "0/2"),
        ("Charge", "0/3"),
        ("Charge", "0/4/1"),
        ("Charge", "0/4/3"),
        ("Charge", "0/4/4"),
        ("Total", "0/4"),
    ]


@ASKING
async def test_after_a_handler_failed_requests_belong_to_the_body_again(by_yield: bool) -> None:
    """5.9 Once a handler has raised, what the body requests is numbered as its own, and sees its own scope."""
    ids: list[str] = []

    def watch(observation: Observation) -> None:
        ids.append(observation.request.id)

    async def total(_effect: Total) -> str:
        raise ValueError(await Charge(1))

    @computation
    async def yielding() -> Effectful[str]:
        try:
            yield Total()
        except ValueError:
            yield Charge(2)
        yield Return(await Charge(3))

    @computation
    async def awaiting() -> str:
        try:
            await Total()
        except ValueError:
            await Charge(2)
        return await Charge(3)

    body = yielding() if by_yield else awaiting()
    answer = await run(
        body.handle(Charge.always("inner")), Total.handled_by(total), Charge.always("outer"), observe=[watch]
    )
    assert answer == "inner"
    assert ids == ["0/1/1", "0/1", "0/2", "0/3"]


def refuse_endless() -> None:
    assert current_call().key.count("/") < 10, "it asks itself, over and over"


async def charge_by_effect(effect: Charge) -> str:
    refuse_endless()
    return f"inner {await effect}"


async def charge_by_another(effect: Charge) -> str:
    refuse_endless()
    return f"inner {await Charge(effect.cents)}"


@computation
async def charge_again(cents: int) -> Effectful[str]:
    yield Return((yield Charge(cents)))


async def charge_by_computation(effect: Charge) -> str:
    refuse_endless()
    return f"inner {await charge_again(effect.cents)}"


OUTWARDS = pytest.mark.parametrize(
    "charge", [charge_by_effect, charge_by_another, charge_by_computation], ids=["effect", "another", "computation"]
)


@OUTWARDS
@ASKING
async def test_what_a_handler_requests_of_its_own_effect_goes_outwards(charge: Any, by_yield: bool) -> None:
    """5.9 A handler does not see itself: what it requests of its own effect goes to the next handler outwards."""
    comp = asking(by_yield=by_yield)
    within = comp.handle(Charge.handled_by(charge))
    twice = within.handle(Charge.handled_by(charge))
    outer = [Total.always("total"), Charge.always("outer")]

    assert await run(within, *outer) == ["total", "inner outer"]
    assert await run(twice, *outer) == ["total", "inner inner outer"]


@OUTWARDS
async def test_a_handler_whose_own_effect_nothing_handles_further_out_is_told_so(charge: Any) -> None:
    """5.6, 5.9 Where there is none further out, its request is unhandled, and the message says that it asked itself."""
    with pytest.raises(UnhandledEffectError, match="A handler of Charge asks here") as caught:
        await run(charge_again(1), Charge.handled_by(charge))
    assert caught.value.installed == ("Charge",)


class Surcharge(Charge, frozen=True):
    """A kind of charge."""


async def test_a_handler_of_a_base_class_passes_subclasses_outwards_too() -> None:
    """5.9 What it requests of any subclass goes outwards: a handler of all effects sees each once on its way."""
    passed: list[str] = []

    async def watch(effect: Effect[Any]) -> Any:
        refuse_endless()
        passed.append(type(effect).__name__)
        return await effect

    @computation
    async def body() -> Effectful[list[Any]]:
        yield Return([(yield Surcharge(1)), (yield Double(2))])

    everything: type[Effect[Any]] = Effect
    comp = body().handle(everything.handled_by(watch))
    assert await run(comp, Charge.always("outer"), Double.handled_by(double)) == ["outer", 4]
    assert passed == ["Surcharge", "Double"]


@ASKING
async def test_handlers_of_one_scope_see_one_another(by_yield: bool) -> None:
    """5.9 What a handler requests of another effect goes to its sibling, which sees the scope without itself."""
    comp = asking(by_yield=by_yield).handle(Charge.handled_by(charge_by_effect), Total.handled_by(total_by_effect))

    assert await run(comp, Charge.always("outer")) == ["total: inner outer", "inner outer"]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_each_request_has_a_key_of_its_own(is_async: bool) -> None:
    """5.9 `current_call()` names the request that is being served, also in handlers of handlers: no two share a key."""
    keys: list[str] = []

    def charge(_effect: Charge) -> str:
        keys.append(current_call().key.partition("/")[2])
        return "charged"

    async def charge_later(effect: Charge) -> str:
        await anyio.lowlevel.checkpoint()
        return charge(effect)

    async def total(_effect: Total) -> str:
        keys.append(current_call().key.partition("/")[2])
        await Charge(1)
        await charge_five()
        await charge_five_awaiting()
        keys.append(current_call().key.partition("/")[2])
        return "total"

    @computation
    async def body() -> Effectful[None]:
        yield Charge(0)
        yield Total()
        await Total()
        yield Charge(9)
        await Charge(9)

    await run(body(), Total.handled_by(total), Charge.handled_by(charge_later if is_async else charge))

    first = ["0/2", "0/2/1", "0/2/3", "0/2/5", "0/2"]
    second = [key.replace("0/2", "0/3") for key in first]
    assert keys == ["0/1", *first, *second, "0/4", "0/5"]


async def test_requests_of_handlers_nest() -> None:
    """5.9 Handlers whose handlers request effects: each in its own scope, each under its own id."""
    ids: list[str] = []

    def watch(observation: Observation) -> None:
        ids.append(observation.request.id)

    async def refund(_effect: Refund) -> str:
        return f"refund of {await Charge(1)}"

    async def total(_effect: Total) -> str:
        return f"total of {await Refund(1)}"

    answer = await run(
        ask_total().handle(Total.handled_by(total)).handle(Refund.handled_by(refund)),
        Charge.always("charge"),
        observe=[watch],
    )

    assert answer == "total of refund of charge"
    assert ids == ["0/1/1/1", "0/1/1", "0/1"]


async def test_an_error_inside_a_handler_of_a_handler_climbs_through_both() -> None:
    """5.9 A nested request's error is thrown in at the handler's line, which may catch it or let it go on."""

    async def total(_effect: Total) -> str:
        try:
            return await Boom(ValueError("nested"))
        except ValueError as error:
            message = "from the handler"
            raise LookupError(message) from error

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Total()
        except LookupError as error:
            yield Return(f"{error} / {error.__cause__}")

    assert await run(body(), Total.handled_by(total), Boom.handled_by(boom)) == "from the handler / nested"


# -- 5.10 ------------------------------------------------------------------------------------------------------------


async def test_inner_handlers_shadow_outer_ones_only_inside() -> None:
    """5.10 `comp.handle(h1, h2)` scopes handlers: they shadow those outside for that computation and end with it."""

    @computation
    async def body() -> Effectful[list[str]]:
        before = yield Charge()
        inside = yield charge_five().handle(Charge.always("inner"))
        innermost = await charge_five().handle(Charge.always("innermost")).handle(Charge.always("inner"))
        after = yield Charge()
        yield Return([before, inside, innermost, after])

    assert await run(body(), Charge.always("outer")) == ["outer", "inner", "innermost", "outer"]


async def test_a_later_handler_in_one_scope_shadows_an_earlier_one() -> None:
    """5.10 Within one scope the last one wins."""
    assert await run(charge_five(), Charge.always("first"), Charge.always("last")) == "last"


async def test_state_of_a_handler_belongs_to_its_scope() -> None:
    """2 A handler is a recipe: its state belongs to the scope, and is never shared between runs or scopes."""

    class Counter(Handler):
        label = "Counter"

        def install(self) -> Installed:
            calls = 0

            def count(_effect: Charge) -> str:
                nonlocal calls
                calls += 1
                return str(calls)

            return Installed({Charge: count})

    counter = Counter()

    @computation
    async def body() -> Effectful[list[str]]:
        yield Return([(yield Charge()), (yield charge_five().handle(counter)), (yield Charge())])

    assert await run(body(), counter) == ["1", "1", "2"]
    assert await run(body(), counter) == ["1", "1", "2"]


class Rooms:
    """Lifetimes that say when they open and close."""

    def __init__(self) -> None:
        self.did: list[str] = []

    def lifetime(self, name: str, handlers: Handler | Sequence[Handler]) -> Handler:
        @asynccontextmanager
        async def room() -> AsyncGenerator[Handler | Sequence[Handler]]:
            await anyio.lowlevel.checkpoint()
            self.did.append(f"open {name}")
            try:
                yield handlers
            except BaseException as error:
                self.did.append(f"{name} sees {type(error).__name__}")
                raise
            finally:
                self.did.append(f"close {name}")

        return lifetime(room)


async def test_lifetimes_open_eagerly_and_close_in_reverse() -> None:
    """5.10 Lifetimes (`async with`) open eagerly at scope entry, in order, and close in reverse."""
    rooms = Rooms()

    @computation
    async def body() -> Effectful[str]:
        rooms.did.append("body")
        yield Return((yield Charge()) + (yield Refund()) + str((yield Double(1))))

    comp = body().handle(
        rooms.lifetime("a", Charge.always("c")), rooms.lifetime("b", [Refund.always("r"), Double.handled_by(double)])
    )

    assert await run(comp, rooms.lifetime("outer", ())) == "cr2"
    assert rooms.did == ["open outer", "open a", "open b", "body", "close b", "close a", "close outer"]


@computation
async def fails() -> Effectful[str]:
    yield Return((yield Boom(ValueError("v"))))


@computation
async def waits() -> Effectful[str]:
    yield Return((yield Slow()))


@computation
async def misuses() -> Effectful[str]:
    yield Return((yield Total()))


@pytest.mark.parametrize("inner", [True, False], ids=["handle", "run"])
@pytest.mark.parametrize("way", [fails, waits, misuses], ids=["error", "cancellation", "deployment error"])
async def test_lifetimes_close_on_every_way_out(way: Any, inner: bool) -> None:
    """5.10 They close on every way out: error, cancellation, error of the deployment."""
    rooms = Rooms()
    room = rooms.lifetime("a", [Boom.handled_by(boom), Slow.handled_by(too_slow)])

    with anyio.move_on_after(0.01):
        try:
            await (run(way().handle(room)) if inner else run(way(), room))
        except (ValueError, UnhandledEffectError) as error:
            assert isinstance(error, ValueError) == (way is fails)  # noqa: PT017 - one of two
    assert rooms.did[0] == "open a"
    assert rooms.did[-1] == "close a"
    assert rooms.did.count("close a") == 1


async def test_a_lifetime_that_fails_to_open_closes_those_before_it() -> None:
    """5.10 Where the second fails to open, the first is closed, and the body never starts."""
    rooms = Rooms()

    @asynccontextmanager
    async def broken() -> AsyncGenerator[Handler]:
        message = "no room"
        raise OSError(message)
        yield Charge.always("never")

    @computation
    async def body() -> Effectful[str]:
        rooms.did.append("body")
        yield Return("never")

    with pytest.raises(OSError, match="no room"):
        await run(body().handle(rooms.lifetime("a", ()), lifetime(broken)))
    assert rooms.did == ["open a", "a sees OSError", "close a"]


async def test_each_scope_enters_a_lifetime_of_its_own() -> None:
    """5.10 A lifetime is a recipe too: the factory makes a fresh one at each entry."""
    rooms = Rooms()
    room = rooms.lifetime("a", Charge.always("c"))

    @computation
    async def body() -> Effectful[None]:
        for _ in range(2):
            yield charge_five().handle(room)

    await run(body())
    assert rooms.did == ["open a", "close a"] * 2


async def test_a_lifetime_may_request_effects_of_the_scope_around_it() -> None:
    """5.10 Opened by the frame that requests the scope: entry and exit of a lifetime see the handlers around it."""
    answers: list[str] = []

    @asynccontextmanager
    async def room() -> AsyncGenerator[Handler]:
        answers.append(await Charge(1))
        yield Charge.always("inner")
        answers.append(await Charge(2))

    assert await run(charge_five().handle(lifetime(room)), Charge.always("outer")) == "inner"
    assert answers[0] == "outer"
    assert len(answers) == 2
