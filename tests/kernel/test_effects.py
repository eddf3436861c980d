"""The first effects under `run`, without a log: State, Reader, events, Throw, Fresh, Clock, marks; and one's own."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from uuid import UUID

import pytest
from msgspec import Struct

from skuld_async import (
    Clock,
    DeclarationError,
    Effect,
    Effectful,
    EventAccumulator,
    Fresh,
    Handler,
    Installed,
    MisuseError,
    Observation,
    Reader,
    Return,
    State,
    Throw,
    computation,
    mark_loop,
    run,
)
from skuld_async.testing import VirtualClock

from .parts import Charge

cart = State("cart", list[str])
total = State("total", int)
limit = Reader("limit", int)


async def test_state_is_read_written_and_changed() -> None:
    """`get`, `put` and `modify`; the answer of `modify` is the new value."""

    @computation
    async def body() -> Effectful[list[Any]]:
        before = yield total.get()
        put = yield total.put(5)
        changed = await total.modify(lambda value: value * 2)
        yield Return([before, put, changed, (await total.get())])

    assert await run(body(), total.handler(1)) == [1, None, 10, 10]


async def test_each_run_and_each_scope_has_a_cell_of_its_own() -> None:
    """2 State belongs to the scope: the first value is copied for each, and an inner scope hides the outer cell."""
    first = ["apple"]

    @computation
    async def add(item: str) -> Effectful[list[str]]:
        items = yield cart.get()
        yield cart.put([*items, item])
        yield Return((yield cart.get()))

    @computation
    async def body() -> Effectful[list[list[str]]]:
        (yield cart.get()).append("changed in place")
        inner = yield add("pear").handle(cart.handler([]))
        outer = yield add("plum")
        yield Return([inner, outer])

    handler = cart.handler(first)
    for _ in range(2):
        assert await run(body(), handler) == [["pear"], ["apple", "changed in place", "plum"]]
    assert first == ["apple"]


async def test_keys_keep_apart() -> None:
    """Two keys are two cells, whatever their types."""

    @computation
    async def body() -> Effectful[tuple[list[str], int]]:
        yield cart.put(["a"])
        yield total.put(1)
        yield Return(((yield cart.get()), (yield total.get())))

    assert await run(body(), cart.handler([]), total.handler(0)) == (["a"], 1)


def test_a_first_value_of_another_type_is_refused_at_the_handler() -> None:
    """A first value that does not fit is refused where the handler is built."""
    with pytest.raises(DeclarationError, match=r"State\[total\]: its first value does not fit"):
        total.handler("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_keys_with_types_that_cannot_come_back_are_refused_where_they_stand() -> None:
    """6.11 The type of a key is compiled where it is declared."""
    for make in (State, Reader, EventAccumulator):
        with pytest.raises(DeclarationError, match="cannot be read back"):
            make("clock", tzinfo)
    Reader("client", tzinfo, logged=False)  # never logged, so never read back


async def test_reader_gives_the_value_in_scope() -> None:
    """`ask` gives the value; `local` changes it for one computation, and nests."""

    @computation
    async def ask() -> Effectful[int]:
        yield Return((yield limit.ask()))

    def raised(value: int) -> int:
        return value + 1

    @computation
    async def body() -> Effectful[list[int]]:
        yield Return(
            [
                (yield ask()),
                (yield limit.local(raised, ask())),
                (await limit.local(raised, limit.local(raised, ask()))),
                (await limit.ask()),
            ]
        )

    assert await run(body(), limit.handler(10)) == [10, 11, 12, 10]


async def test_events_are_accumulated_for_each_scope() -> None:
    """`emit` answers None, and each scope starts with an empty list."""
    events = EventAccumulator("events", str)

    @computation
    async def body() -> Effectful[list[None]]:
        first = yield events.emit("a")
        second = yield events.emit("b")
        await events.emit("c")
        yield Return([first, second])

    handler = events.handler()
    assert await run(body(), handler) == [None, None]
    assert [cell.value for cell in handler.install().cells] == [[]]


async def test_throw_raises_at_its_line() -> None:
    """`Throw` raises its error where it is requested, the same object; `try` and `except` catch it."""
    error = LookupError("thrown")

    @computation
    async def body(*, catch: bool) -> Effectful[str]:
        try:
            yield Throw(error)
        except LookupError as caught:
            if not catch:
                raise
            yield Return(str(caught))

    assert await run(body(catch=True)) == "thrown"
    with pytest.raises(LookupError) as caught:
        await run(body(catch=False))
    assert caught.value is error


async def test_fresh_is_a_function_of_seed_and_place() -> None:
    """6.3 Fresh is derived: from the seed and the id of its entry; so two in a run differ, and a seed repeats both."""

    @computation
    async def inner() -> Effectful[UUID]:
        yield Return((yield Fresh.uuid()))

    @computation
    async def body() -> Effectful[list[UUID]]:
        yield Return([(yield Fresh.uuid()), (await Fresh.uuid()), (yield inner())])

    once, again, other = [await run(body(), seed=seed) for seed in ("a", "a", "b")]
    assert once == again
    assert len({*once, *other, *(await run(body()))}) == 9
    assert {one.version for one in once} == {4}


async def test_clock_now_is_aware_and_replaceable() -> None:
    """`Clock.now` is the system's time in UTC, where no other handler is in scope."""

    @computation
    async def body() -> Effectful[datetime]:
        yield Return((yield Clock.now()))

    now = await run(body())
    assert now.tzinfo is UTC
    assert abs(datetime.now(UTC) - now) < timedelta(minutes=1)

    clock = VirtualClock(datetime(2024, 2, 29, tzinfo=UTC))
    clock.advance(timedelta(days=1))
    assert await run(body(), clock.handler()) == datetime(2024, 3, 1, tzinfo=UTC)


async def test_marks_number_iterations_and_pass_the_carry_on() -> None:
    """6.2 Under `run` a mark answers with its carry, and what follows is numbered by loop, activation and iteration."""
    ids: list[str] = []

    def watch(observation: Observation) -> None:
        if isinstance(observation.request.effect, Charge):
            ids.append(observation.request.id)

    @computation
    async def inner() -> Effectful[int]:
        for n in range(2):
            yield mark_loop("inner")
            yield Charge(n)
        yield Return(1)

    @computation
    async def body() -> Effectful[list[int]]:
        seen: list[int] = []
        yield Charge(0)
        for _ in range(2):
            seen = yield mark_loop("outer", list[int], carry=[*seen, len(seen)])
            yield inner()
            yield Charge(9)
        yield Return(seen)

    assert await run(body(), Charge.always("c"), observe=[watch]) == [0, 1]
    assert ids == [
        "0/1",
        "0/outer@0#1/inner@1#1/1",
        "0/outer@0#1/inner@1#2/1",
        "0/outer@0#1/3",  # its first mark took number 2
        "0/outer@0#2/inner@1#1/1",
        "0/outer@0#2/inner@1#2/1",
        "0/outer@0#2/3",
    ]


async def test_a_handler_marks_no_loop() -> None:
    """6.10 A loop belongs to a computation: a mark in a handler is a misuse."""

    async def charge(_effect: Charge) -> str:
        await mark_loop("turns")
        return "charged"

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield Charge()))

    with pytest.raises(MisuseError, match="a handler marks no loops"):
        await run(body(), Charge.handled_by(charge))


@pytest.mark.parametrize("name", ["a/b", "a#b", "a@b", "a~b"])
def test_names_of_loops_leave_ids_readable(name: str) -> None:
    """6.2 The signs that ids are made of stand in no name and no key."""
    with pytest.raises(DeclarationError, match="names cannot hold"):
        mark_loop(name)
    with pytest.raises(DeclarationError, match="names cannot hold"):
        mark_loop("turns", key=name)


async def test_a_family_of_ones_own_takes_ten_lines() -> None:
    """2 A user writes a new effect with its handler in ten lines: state for each scope, one class of requests."""

    class Take(Effect[int], frozen=True):
        count: int

    class Stock(Handler):
        label = "Stock"

        def __init__(self, items: int) -> None:
            self.items = items

        def install(self) -> Installed:
            left = [self.items]

            def take(effect: Take) -> int:
                left[0] -= effect.count
                return left[0]

            return Installed({Take: take})

    @computation
    async def body() -> Effectful[list[int]]:
        yield Return([(yield Take(1)), (await Take(2))])

    stock = Stock(10)
    assert await run(body(), stock) == [9, 7]
    assert await run(body(), stock) == [9, 7]


def test_effects_are_data() -> None:
    """2 An effect is a frozen struct: equal by its fields, hashable, with a stable name and the type of its answer."""

    class Page(Struct, frozen=True):
        text: str

    class Fetch(Effect[Page], frozen=True):
        url: str

    class Renamed(Effect[int], frozen=True):
        __sig__ = "shop:fetch"

    assert Fetch("a") == Fetch("a")
    assert len({Fetch("a"), Fetch("a"), Fetch("b")}) == 2
    with pytest.raises(AttributeError):
        Fetch("a").url = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
    assert Fetch.__sig__ == f"{__name__}:test_effects_are_data.<locals>.Fetch"
    assert Renamed.__sig__ == "shop:fetch"
    assert Fetch.__answer__.type is Page


def test_the_answers_type_is_found_through_generic_bases() -> None:
    """6.11 `Effect[T]` compiles its answer where it is declared, through generic bases too."""
    from typing import Generic, TypeVar  # noqa: PLC0415 - for this test alone

    K = TypeVar("K")

    class Listing(Effect[list[K]], Generic[K], frozen=True):
        pass

    class Numbers(Listing[int], frozen=True):
        pass

    assert Numbers.__answer__.type == list[int]
    with pytest.raises(DeclarationError, match=r"Bad: ValueError is an exception"):

        class Bad(Effect[int | ValueError], frozen=True):  # pyright: ignore[reportUnusedClass]
            pass
