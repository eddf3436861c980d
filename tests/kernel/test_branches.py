"""Concurrent effects without a log: `run` gives the same values, errors and cleanup as `start`."""

import contextvars
from datetime import timedelta
from typing import Any

import anyio
import pytest

from skuld_async import (
    Clock,
    Computation,
    Effect,
    Effectful,
    Parallel,
    Return,
    State,
    TimedOut,
    UnhandledEffectError,
    Won,
    Writer,
    Yield,
    bracket,
    computation,
    current_call,
    run,
    with_timeout,
)
from skuld_async._context import current_strand
from skuld_async.testing import VirtualClock

from .parts import Bank, Charge, Refund, Slow

counter = State("kernel.branches.counter", int)
notes = Writer("kernel.branches.notes", str)
HOUR = timedelta(hours=1)


class Wait(Effect[str], frozen=True):
    """Ends when it is let."""

    name: str


class Gate:
    def __init__(self) -> None:
        self.there: dict[str, anyio.Event] = {}
        self.open: dict[str, anyio.Event] = {}
        self.keys: dict[str, str] = {}

    async def serve(self, effect: Wait) -> str:
        self.keys[effect.name] = current_call().key
        self.at(effect.name).set()
        await self.open.setdefault(effect.name, anyio.Event()).wait()
        return effect.name.upper()

    def at(self, name: str) -> anyio.Event:
        return self.there.setdefault(name, anyio.Event())

    def let(self, *names: str) -> None:
        for name in names:
            self.open.setdefault(name, anyio.Event()).set()


@computation
async def waits(name: str) -> Effectful[str]:
    yield Return((yield Wait(name)))


@computation
async def pays(cents: int) -> Effectful[str]:
    yield Return((yield Charge(cents)))


@computation
async def fails(error: Any) -> Effectful[str]:
    yield Charge(1)
    raise error


async def test_branches_run_side_by_side() -> None:
    """`Parallel.all`: all branches are under way at once, and the results stand in their order."""
    gate = Gate()
    result: list[Any] = []

    async def runs() -> None:
        result.append(await run(Parallel.all(waits("a"), Wait("b"), waits("c")), Wait.handled_by(gate.serve)))

    async with anyio.create_task_group() as group:
        group.start_soon(runs)
        for name in "abc":
            await gate.at(name).wait()
        gate.let("c", "b", "a")
    assert result == [("A", "B", "C")]
    assert [key.rpartition("/0/")[2] for key in (gate.keys[name] for name in "abc")] == ["1.1/1", "1.2/1", "1.3/1"]


async def test_a_race_stops_the_losers_with_their_cleanup() -> None:
    """`Parallel.race`: the first that returns wins; brackets and `ensure` of the others are performed."""
    bank = Bank()
    slow = bracket(Charge(1), lambda _: hangs(), lambda _: Refund(1)).ensure(Refund(2))

    @computation
    async def quick() -> Effectful[str]:
        while len(bank.performed) < 1:
            await anyio.lowlevel.checkpoint()
        yield Return("quick")

    async def forever(_effect: Slow) -> str:
        await anyio.sleep_forever()
        raise AssertionError

    handlers = [Charge.handled_by(bank.charge), Refund.handled_by(bank.refund), Slow.handled_by(forever)]
    assert await run(Parallel.race(slow=slow, quick=quick()), *handlers) == Won("quick", "quick")
    assert bank.performed == ["charge 1", "refund 1", "refund 2"]


@computation
async def hangs() -> Effectful[str]:
    yield Return((yield Slow()))


async def test_one_error_arrives_as_itself_several_as_a_group() -> None:
    """The error of one branch arrives as itself; those of several as a group, in the order of the branches."""
    error = ValueError("a")
    with pytest.raises(ValueError, match="a") as caught:
        await run(Parallel.all(fails(error), forever_idle()), Charge.always("c"))
    assert caught.value is error

    begun = anyio.Event()

    async def late(_effect: Charge) -> str:
        await begun.wait()
        return "late"

    comp = Parallel.all(breaks_when_stopped("b", begun), fails(error), forever_idle())
    with pytest.raises(ExceptionGroup, match="2 branches failed") as group:
        await run(comp, Charge.handled_by(late))
    assert [repr(one) for one in group.value.exceptions] == ["KeyError('b')", "ValueError('a')"]


@computation
async def forever_idle() -> Effectful[str]:
    await anyio.sleep_forever()
    yield Charge(0)


@computation
async def breaks_when_stopped(name: str, begun: anyio.Event) -> Effectful[str]:
    begun.set()
    try:
        await anyio.sleep_forever()
    finally:
        raise KeyError(name)
    yield Charge(0)


async def test_settle_keeps_errors_beside_results() -> None:
    """`settle=True`: each error stands in the place of its branch's result."""
    error = ValueError("a")
    found = await run(Parallel.all(pays(1), fails(error), settle=True), Charge.always("c"))
    assert found == ("c", error)
    assert await run(Parallel.map(fails, [error, error], settle=True), Charge.always("c")) == [error, error]


async def test_an_error_that_is_caught_in_the_body() -> None:
    """The body goes on behind an error of its branches."""

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Parallel.all(fails(ValueError("a")), forever_idle())
        except ValueError:
            yield Return((yield Charge(2)))

    assert await run(body(), Charge.always("went on")) == "went on"


async def test_state_is_a_snapshot_and_notes_are_merged() -> None:
    """A branch works on a copy of the state; what it told is added in the order of the branches."""

    @computation
    async def branch(number: int) -> Effectful[int]:
        yield notes.tell(f"{number}")
        yield Charge(number)
        yield Return((yield counter.modify(lambda value: value + number)))

    @computation
    async def body() -> Effectful[list[Any]]:
        yield counter.put(10)
        found = yield Parallel.map(branch, [1, 2, 3], limit=2)
        yield Return([found, (yield counter.get()), (yield notes.peek())])

    value = await run(body(), Charge.always("c"), counter.handler(0), notes.handler())
    assert value == [[11, 12, 13], 10, ["1", "2", "3"]]


async def test_a_fault_of_one_branch_stops_all() -> None:
    """5.6 An effect that nothing handles in one branch is raised by `run`; no sibling performs anything more."""
    performed: list[str] = []

    @computation
    async def goes_on() -> Effectful[str]:
        await anyio.sleep_forever()
        yield Charge(1)

    @computation
    async def swallows() -> Effectful[str]:
        try:
            yield Refund(1)
        except BaseException:  # noqa: BLE001, S110 - the point of the test
            pass
        yield Return((yield Charge(3)))

    def charge(effect: Charge) -> str:
        performed.append(f"{effect.cents}")
        return "charged"

    handler = Charge.handled_by(charge)
    comp = Parallel.all(goes_on().ensure(Charge(2)), swallows())
    with pytest.raises(UnhandledEffectError, match="nothing handles Refund") as caught, anyio.fail_after(5):
        await run(comp, handler)
    assert performed == []
    assert not hasattr(caught.value, "log")


async def test_cancelling_the_caller_cancels_all_branches() -> None:
    """Without a log a cancel of the caller is an ordinary cancellation: branches are stopped, cleanup is performed."""
    bank = Bank()
    stopped: list[str] = []

    @computation
    async def branch(name: str) -> Effectful[str]:
        try:
            await anyio.sleep_forever()
        finally:
            stopped.append(name)
        yield Charge(0)

    comp = Parallel.all(branch("a").ensure(Refund(1)), Parallel.race(x=branch("b").ensure(Refund(2))))
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def host() -> None:
                for _ in range(5):
                    await anyio.lowlevel.checkpoint()
                scope.cancel()

            group.start_soon(host)
            await run(comp, Refund.handled_by(bank.refund))
    assert scope.cancelled_caught
    assert sorted(stopped) == ["a", "b"]
    assert sorted(bank.performed) == ["refund 1", "refund 2"]
    assert current_strand.get() is None


async def test_sleep_and_timeouts_by_a_virtual_clock() -> None:
    """`Clock.sleep` and `with_timeout` wait in the process, by the clock in scope."""
    clock, gate = VirtualClock(), Gate()
    found: list[Any] = []

    async def runs(comp: Computation[Any]) -> None:
        found.append(await run(comp, clock.handler(), Wait.handled_by(gate.serve)))

    @computation
    async def sleeps() -> Effectful[str]:
        yield Wait("begun")
        yield Clock.sleep(HOUR)
        yield Return("slept")

    gate.let("begun")
    due = clock.now + 2 * HOUR
    for comp in (sleeps(), with_timeout(waits("x"), HOUR), with_timeout(sleeps(), 2 * HOUR)):
        async with anyio.create_task_group() as group:
            group.start_soon(runs, comp)
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            clock.advance(HOUR)
    assert found == ["slept", TimedOut(due), "slept"]


async def test_a_short_real_sleep() -> None:
    """Without a clock in scope it is the system's."""
    assert await run(Parallel.race(a=Clock.sleep(timedelta(milliseconds=1)), b=forever_idle())) == Won("a", None)
    assert isinstance(await run(with_timeout(forever_idle(), timedelta(milliseconds=1))), TimedOut)


async def test_a_branch_begins_with_the_context_of_who_opened_it() -> None:
    """Context variables are copied into each branch; what a branch sets is its own."""
    colour: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")
    seen: list[str] = []

    @computation
    async def branch(name: str) -> Effectful[None]:
        seen.append(colour.get())
        colour.set(name)
        yield Charge(1)
        seen.append(colour.get())

    @computation
    async def body() -> Effectful[None]:
        colour.set("body")
        yield Parallel.all(branch("a"), branch("b"))
        seen.append(colour.get())

    await run(body(), Charge.always("c"))
    assert sorted(seen) == ["a", "b", "body", "body", "body"]


class Question(Yield[str], frozen=True):
    about: str


async def test_questions_in_branches_need_a_handler() -> None:
    """Without a log nobody waits: a question in a branch is answered by a handler, or is a fault."""
    comp = Parallel.all(Question("a"), Question("b"))
    assert await run(comp, Question.handled_by(lambda question: question.about * 2)) == ("aa", "bb")
    with pytest.raises(UnhandledEffectError):
        await run(comp)


async def test_a_thousand_branches_and_fifty_levels() -> None:
    """Many branches, and deep ones, without a log."""
    assert await run(Parallel.map(Charge, range(1000), limit=7), Charge.handled_by(lambda e: f"{e.cents}")) == [
        f"{number}" for number in range(1000)
    ]
    comp: Any = Charge(1)
    for _ in range(50):
        comp = Parallel.all(comp)
    value: Any = await run(comp, Charge.always("deep"))
    for _ in range(50):
        (value,) = value
    assert value == "deep"


async def test_a_body_scope_around_branches() -> None:
    """A scope of the body that fires while branches run stops them all, with their cleanup, and the body goes on."""
    bank, gate = Bank(), Gate()

    @computation
    async def body() -> Effectful[str]:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            yield Parallel.all(waits("a").ensure(Refund(1)), waits("b").ensure(Refund(2)))
        yield Return("cancelled" if scope.cancelled_caught else "not")

    scopes: list[anyio.CancelScope] = []
    found: list[str] = []

    async def runs() -> None:
        found.append(await run(body(), Wait.handled_by(gate.serve), Refund.handled_by(bank.refund)))

    async with anyio.create_task_group() as group:
        group.start_soon(runs)
        await gate.at("a").wait()
        await gate.at("b").wait()
        scopes[0].cancel()
    assert found == ["cancelled"]
    assert sorted(bank.performed) == ["refund 1", "refund 2"]
