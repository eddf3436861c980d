"""Random: chance that is a function of the run's seed and the entry's id, without a log and out of one."""

import itertools
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec import Struct

from skuld_async import (
    Completed,
    DivergenceError,
    Effect,
    Effectful,
    Failed,
    Kind,
    Log,
    Outcome,
    Random,
    Return,
    Suspended,
    UnencodableError,
    Yield,
    computation,
    mark_loop,
    replay,
    rerun,
    resume,
    run,
    start,
)
from skuld_async.testing import always_cold

from .parts import Charge


class Ask(Yield[str], frozen=True):
    pass


class Lot(Effect[float], frozen=True):
    """Its handler draws."""


class Item(Struct, frozen=True):
    name: str
    price: Decimal


SET: Any = {"a", "b"}
ITEMS = [Item("pen", Decimal("1.50")), Item("cup", Decimal(4)), Item("ink", Decimal(9))]


@computation
async def one_of_each() -> Effectful[list[Any]]:
    """Each draw once, in a fixed order: one, two ... are the entries 0/1, 0/2 ..."""
    number = yield Random.random()
    die = yield Random.int(1, 6)
    large = yield Random.int(-(2**70), 2**70)
    letter = yield Random.choice("abcdef")
    order = yield Random.shuffle(range(6))
    some = yield Random.sample(["a", "b", "c", "d"], 2)
    yield Return([number, die, large, letter, order, some])


@computation
async def many(count: int) -> Effectful[list[int]]:
    drawn: list[int] = []
    for _ in range(count):
        number = yield Random.int(0, 4)
        drawn.append(number)
    yield Return(drawn)


def stored(outcome: Outcome[Any]) -> Log:
    return Log.from_msgpack(Log.from_json(outcome.log.to_json()).to_msgpack())


# -- what is drawn -----------------------------------------------------------------------------------------------------


async def test_draws_are_the_same_in_each_version_of_python() -> None:
    """6.3 Values are a function of seed and entry id, and of nothing else: these are pinned, for ever."""
    assert await run(one_of_each(), seed="golden") == GOLDEN
    assert (await start(one_of_each(), id="any", seed="golden")).value == GOLDEN
    assert await run(one_of_each(), Random.seeded("golden"), seed="other") == GOLDEN


async def test_a_seed_repeats_a_run_and_another_one_does_not() -> None:
    """6.3 Random is derived: from the seed of the run and the id of the entry, so that two draws differ."""
    once, again, other, unseeded = [await run(many(30), seed=seed) for seed in ("a", "a", "b", None)]

    assert once == again
    assert once not in (other, unseeded)
    assert len(set(once)) == 5  # each entry draws for itself


async def test_draws_stay_in_their_range() -> None:
    """`random` is below 1, `int` includes both ends, negative and large ones too, and one value is no draw."""

    @computation
    async def body() -> Effectful[None]:
        for _ in range(200):
            assert 0 <= (yield Random.random()) < 1
            assert -3 <= (yield Random.int(-3, 3)) <= 3
            assert 0 <= (yield Random.int(0, 10**100)) <= 10**100
            assert (yield Random.int(7, 7)) == 7
            assert (yield Random.choice(["only"])) == "only"
        assert (yield Random.shuffle([])) == []
        assert (yield Random.sample([1, 2], 0)) == []

    await run(body(), seed="range")


@pytest.mark.parametrize(
    ("draw", "values"),
    [
        (lambda: Random.int(1, 5), 5),
        (lambda: Random.choice(["a", "b", "c", "d"]), 4),
        (lambda: Random.shuffle([1, 2, 3]), 6),
        (lambda: Random.sample([1, 2, 3, 4], 2), 12),
    ],
    ids=["int", "choice", "shuffle", "sample"],
)
async def test_each_value_is_as_likely_as_the_others(draw: Callable[[], Effect[Any]], values: int) -> None:
    """No value is preferred: 600 draws of each are expected, and found within 100 (four deviations)."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield Return([str(await draw()) for _ in range(600 * values)])

    drawn = Counter(await run(body(), seed="likely"))

    assert len(drawn) == values
    assert {one: count for one, count in drawn.items() if abs(count - 600) > 100} == {}


async def test_what_is_drawn_are_the_objects_themselves() -> None:
    """`choice`, `shuffle` and `sample` give the objects that they were given, on a replay too, and change no list."""

    @computation
    async def body() -> Effectful[None]:
        items = list(ITEMS)
        one = yield Random.choice(items)
        order = yield Random.shuffle(items)
        some = yield Random.sample(tuple(items), 2)
        yield Ask()
        assert items == ITEMS
        assert {id(each) for each in (one, *order, *some)} <= {id(each) for each in ITEMS}
        assert len({id(each) for each in order}) == 3
        assert len({id(each) for each in some}) == 2

    outcome = await start(body())
    assert isinstance(outcome, Suspended)
    assert isinstance(await resume(body(), stored(outcome), answer="go"), Completed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Random.int(6, 1), r"Random.int\(6, 1\): the lower bound comes first; write Random.int\(1, 6\)"),
        (lambda: Random.choice(""), r"there are no options; ask only `if options:`"),
        (lambda: Random.choice(SET), r"write sorted\(options\)"),
        (lambda: Random.shuffle(SET), r"write sorted\(items\)"),
        (lambda: Random.sample([1, 2], 3), r"there are 2 items; .* min\(count, len\(items\)\)"),
        (lambda: Random.sample([1, 2], -1), r"Random.sample\(items, -1\)"),
        (Random.fixed, r"Random.fixed\(\): give fractions"),
        (lambda: Random.fixed(0.5, 1.0), r"Random.fixed\(0.5, 1.0\): give fractions"),
        (lambda: Random.fixed(float("nan")), r"give fractions"),
    ],
    ids=["int", "choice", "choice-set", "shuffle-set", "sample-many", "sample-few", "none", "one", "nan"],
)
def test_bad_arguments_are_refused_at_the_call(call: Callable[[], Any], message: str) -> None:
    """What cannot be drawn is a `ValueError` where it is written, with the fix."""
    with pytest.raises(ValueError, match=message):
        call()


# -- under a log -------------------------------------------------------------------------------------------------------


async def test_a_log_holds_what_was_asked_and_no_value() -> None:
    """6.3 Derived: nothing to store or lose; the entry holds the arguments, which a replay compares."""
    outcome = await start(one_of_each(), seed="golden")

    assert [(entry.sig, bytes(entry.data), bytes(entry.value)) for entry in outcome.log.entries[:4]] == [
        ("Random.random", b"{}", b"null"),
        ("Random.int", b'{"low":1,"high":6}', b"null"),
        ("Random.int", b'{"low":-1180591620717411303424,"high":1180591620717411303424}', b"null"),
        ("Random.choice", b'{"options":["a","b","c","d","e","f"]}', b"null"),
    ]
    assert (await replay(one_of_each(), stored(outcome))).value == GOLDEN


async def test_other_options_are_a_divergence() -> None:
    """6.4 A replay compares what is drawn from."""

    @computation
    async def body() -> Effectful[str]:
        drawn = yield Random.choice(options)
        yield Ask()
        yield Return(drawn)

    options = ["a", "b"]
    log = stored(await start(body()))
    options = ["a", "c"]

    with pytest.raises(DivergenceError, match="options"):
        await resume(body(), log, answer="go")


async def test_options_that_cannot_be_encoded_are_refused() -> None:
    """6.11 What the log could not compare is refused at that effect."""

    @computation
    async def body() -> Effectful[None]:
        yield Random.choice([object()])

    with pytest.raises(UnencodableError, match=r"Random\.choice"):
        await start(body())


async def test_a_loop_draws_anew_in_each_iteration() -> None:
    """6.2, 6.10 Ids hold the iteration, so that pruning repeats no draw; and it is always cold."""

    @computation
    async def body() -> Effectful[list[int]]:
        drawn: list[int] = []
        while len(drawn) < 5:
            drawn = yield mark_loop("draws", list[int], carry=drawn)
            number = yield Random.int(0, 10**9)
            yield Ask()
            drawn = [*drawn, number]
        yield Return(drawn)

    outcome = await always_cold(body(), answer=lambda _: "go")

    assert len(set(outcome.value)) == 5


async def test_a_failed_run_may_have_drawn_after_its_failure() -> None:
    """6.7 Chance leaves the process alone: `rerun` is not refused for its sake."""

    @computation
    async def body() -> Effectful[str]:
        try:
            answer = yield Charge()
        except ConnectionError:
            yield Random.random()
            raise
        yield Return(answer)

    def fails(_effect: Charge) -> str:
        raise ConnectionError

    failed = await start(body(), Charge.handled_by(fails))
    assert isinstance(failed, Failed)
    assert (await rerun(body(), stored(failed), Charge.always("charged"))).value == "charged"


# -- handlers for tests ------------------------------------------------------------------------------------------------


async def test_a_seeded_handler_is_a_function_of_its_text_and_the_entry() -> None:
    """`Random.seeded` draws the same in each run, whatever the seed; in its scope alone."""

    @computation
    async def body() -> Effectful[list[list[int]]]:
        inside = yield many(20).handle(Random.seeded("inside"))
        outside = yield many(20)
        yield Return([inside, outside])

    first, second = [await run(body(), Random.seeded("text"), seed=seed) for seed in ("a", "b")]
    other = await run(body(), Random.seeded("other"), seed="a")

    assert first == second
    assert first[0] == other[0]
    assert first[1] != other[1]


async def test_a_seeded_handler_knows_the_entry_of_a_nested_draw() -> None:
    """5.9 Drawn by a handler, from under its own id: the same as a derived draw there; two handlers differ."""

    async def lot(_effect: Lot) -> float:
        return await Random.random()

    @computation
    async def body() -> Effectful[list[float]]:
        yield Return([(yield Lot()), (await Lot()), (yield Random.random())])

    derived = await run(body(), Lot.handled_by(lot), seed="text")
    seeded = await run(body(), Random.seeded("text"), Lot.handled_by(lot), seed="other")
    logged: Outcome[list[float]] = await start(body(), Random.seeded("text"), Lot.handled_by(lot))

    assert derived == seeded == logged.value
    assert len(set(derived)) == 3


async def test_fixed_fractions_are_used_in_turn() -> None:
    """`Random.fixed` uses its fractions over and over: one a draw, one for each item of `shuffle` and `sample`."""

    @computation
    async def body() -> Effectful[list[Any]]:
        number = yield Random.random()  # 0.5
        low = yield Random.int(1, 6)  # 0.0
        last = yield Random.choice("abc")  # 0.999
        middle = yield Random.int(0, 10**30)  # 0.5
        some = yield Random.sample("abcd", 2)  # 0.0, 0.999
        order = yield Random.shuffle("abc")  # 0.5, 0.0, 0.999
        again = yield Random.random()  # 0.5
        yield Return([number, low, last, middle, some, order, again])

    handler = Random.fixed(0.5, 0.0, 0.999)
    expected = [0.5, 1, "c", (10**30 + 1) // 2, ["a", "d"], ["b", "a", "c"], 0.5]
    for _ in range(2):  # each run from the first
        assert await run(body(), handler) == expected


async def test_fixed_zero_changes_nothing() -> None:
    """0 stands for the first: it leaves each order as it was."""

    @computation
    async def body() -> Effectful[list[int]]:
        yield Return((yield Random.shuffle([1, 2, 3])))

    assert await run(body(), Random.fixed(0)) == [1, 2, 3]


@computation
async def draws_and_asks() -> Effectful[list[float]]:
    drawn: list[float] = []
    for _ in range(3):
        drawn += [(yield Random.random()), (yield Lot())]
        yield Ask()
    yield Return([*drawn, (yield Random.random())])


async def lot_of_two(_effect: Lot) -> float:
    return await Random.random() + await Random.random()


FRACTIONS = [0.1, 0.2, 0.3, 0.4, 0.5]


async def test_fixed_fractions_go_on_after_a_cold_resume() -> None:
    """5.9, 6.3 How far they were used is state: it is the same after a cold resume, with nested draws as well."""
    scope = [Random.fixed(*FRACTIONS), Lot.handled_by(lot_of_two)]
    straight = await run(draws_and_asks(), *scope, Ask.always("go"))
    used = itertools.cycle(FRACTIONS)
    expected = [*itertools.chain(*[(next(used), next(used) + next(used)) for _ in range(3)]), next(used)]
    assert straight == expected

    outcome: Outcome[list[float]] = await start(draws_and_asks(), *scope)
    while isinstance(outcome, Suspended):
        outcome = await resume(draws_and_asks(), stored(outcome), *scope, answer="go")
    assert outcome.value == expected
    assert isinstance(await always_cold(draws_and_asks(), *scope, answer=lambda _: "go"), Completed)


async def test_fixed_fractions_of_an_inner_scope_go_on_after_a_cold_resume() -> None:
    """5.9, 5.10, 6.3 The same in an inner scope, whose draws are not those of a handler outside."""
    comp = draws_and_asks().handle(Random.fixed(*FRACTIONS), Lot.handled_by(lot_of_two))
    outside = Random.fixed(0.9)
    straight = await run(draws_and_asks(), Random.fixed(*FRACTIONS), Lot.handled_by(lot_of_two), Ask.always("go"))

    assert (await always_cold(comp, outside, answer=lambda _: "go")).value == straight


async def test_fixed_fractions_go_on_in_a_loop() -> None:
    """6.10 A mark keeps how far they were used."""

    @computation
    async def body() -> Effectful[list[float]]:
        drawn: list[float] = []
        while len(drawn) < 7:
            drawn = yield mark_loop("draws", list[float], carry=drawn)
            number = yield Random.random()
            yield Ask()
            drawn = [*drawn, number]
        yield Return(drawn)

    outcome = await always_cold(body(), Random.fixed(0.1, 0.2, 0.3), answer=lambda _: "go")

    assert outcome.value == [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.1]


async def test_a_nested_draw_that_raised_disturbs_no_replay() -> None:
    """5.9 What a handler's own derived request raised was its business, on a replay as well."""

    class Roll(Effect[int], frozen=True):
        __kind__ = Kind.DERIVED

    def fails(_effect: Roll) -> int:
        message = "no dice"
        raise ValueError(message)

    async def charge(_effect: Charge) -> str:
        try:
            return str(await Roll())
        except ValueError as error:
            return str(error)

    @computation
    async def body() -> Effectful[str]:
        charged = yield Charge()
        yield Ask()
        yield Return(charged)

    scope = [Roll.handled_by(fails), Charge.handled_by(charge)]
    first = await start(body(), *scope)
    assert (await resume(body(), stored(first), *scope, answer="go")).value == "no dice"


GOLDEN: list[Any] = [0.2960120769236959, 4, 929873356563532307884, "e", [1, 4, 2, 0, 5, 3], ["b", "a"]]
