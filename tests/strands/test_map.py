"""`Parallel.map`: one branch an item, as many at a time as the limit lets run."""

from typing import Any

import anyio
import pytest

from skuld_async import DeclarationError, Effectful, Parallel, Return, computation, open_session, replay, start
from skuld_async.testing import always_cold

from .parts import (
    Call,
    Desk,
    Release,
    about,
    again,
    asks,
    calls,
    comes_to_the_same,
    completed,
    crash_anywhere,
    ids,
    states,
    stored,
    suspended,
    waits_by_name,
)


class Counting(Desk):
    """Knows how many calls were out at once."""

    def __init__(self, *held: str) -> None:
        super().__init__(*held)
        self.most = 0

    async def serve(self, effect: Call | Release) -> str:
        self.most = max(self.most, len(self.running) + 1)
        return await super().serve(effect)


async def test_results_stand_in_the_order_of_the_items() -> None:
    """The results are a list in the order of the items, whoever ends first."""
    desk = Desk("a", "b", "c")

    async def let_go() -> None:
        for name in "cba":
            await desk.at(name).wait()
            desk.let(name)

    async with anyio.create_task_group() as group:
        group.start_soon(let_go)
        outcome = completed(await start(Parallel.map(Call, "abc"), *desk.handlers))
    assert outcome.value == ["A", "B", "C"]
    await comes_to_the_same(Parallel.map(Call, "abc"), outcome)


@pytest.mark.parametrize("limit", [1, 2, 5, 100])
async def test_never_more_than_the_limit_run_at_once(limit: int) -> None:
    """Never more than `limit` run at the same time, and no fewer while there is something to do."""
    names = [f"{number}" for number in range(20)]
    desk = Counting()
    outcome = completed(await start(Parallel.map(calls, names, limit=limit), *desk.handlers))
    assert outcome.value == [name.upper() for name in names]
    assert desk.most == min(limit, 20)


async def test_the_next_begins_when_one_has_ended() -> None:
    """Items begin in their order: the next one when any has ended, whichever that is."""
    desk = Desk("a", "b", "c", "d")
    async with open_session(Parallel.map(Call, "abcd", limit=2), *desk.handlers) as session:
        await desk.at("a").wait()
        await desk.at("b").wait()
        assert sorted(desk.arrived) == ["a", "b"]
        desk.let("b")
        await desk.at("c").wait()
        assert sorted(desk.arrived) == ["a", "b", "c"]
        desk.let("a")
        await desk.at("d").wait()
        desk.let("c", "d")
        assert completed(await session.outcome()).value == ["A", "B", "C", "D"]


async def test_no_items() -> None:
    """No items give an empty list, and an entry all the same."""
    outcome = completed(await start(Parallel.map(Call, []), *Desk().handlers))
    assert outcome.value == []
    assert states(outcome.log) == {"0/1": "executed"}
    await comes_to_the_same(Parallel.map(Call, []), outcome)


async def test_ids_are_numbers_of_items() -> None:
    """6.2 A branch is named after the number of its item, whenever it begins."""
    outcome = completed(await start(Parallel.map(Call, [f"{n}" for n in range(11)], limit=3), *Desk().handlers))
    assert sorted(ids(outcome.log)) == sorted(["0/1", *(f"0/1.{n}/1" for n in range(1, 12))])
    assert {entry.id: bytes(entry.data) for entry in outcome.log.entries}["0/1.11/1"] == b'{"name":"10"}'


async def test_one_and_eleven_are_different_branches() -> None:
    """6.2 The paths of branches 1, 10 and 11 are no prefixes of one another: a resume tells them apart."""
    names = [f"{number}" for number in range(1, 13)]
    comp = Parallel.map(asks, names)
    first = suspended(await start(comp, *Desk().handlers))
    desk = Desk()
    second = suspended(await again(comp, first.log, *desk.handlers, answer="x", to=waits_by_name(first)["1"]))
    assert desk.arrived == ["after 1"]
    assert about(second) == sorted(names[1:])


async def test_the_function_may_give_computations_and_effects() -> None:
    """What the function gives is a branch: a computation for one item, an effect for another."""

    def either(name: str) -> Any:
        return Call(name) if name < "b" else calls(name, name * 2)

    outcome = completed(await start(Parallel.map(either, "abc"), *Desk().handlers))
    assert outcome.value == ["A", "BB", "CC"]


async def test_what_cannot_be_mapped_is_refused_at_once() -> None:
    """A limit below 1, or a function that gives no computation, is refused where it is given."""
    for limit in (0, -1):
        with pytest.raises(DeclarationError, match=f"limit={limit} lets nothing run"):
            Parallel.map(Call, ["a"], limit=limit)
    with pytest.raises(DeclarationError, match="neither a computation nor an effect"):
        Parallel.map(str.upper, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_another_limit_replays_the_same() -> None:
    """6.4 The limit is no part of what a replay compares: a deployment may change it."""
    names = list("abcdef")
    outcome = completed(await start(Parallel.map(Call, names, limit=1), *Desk().handlers))
    assert (
        completed(await replay(Parallel.map(Call, names, limit=6), stored(outcome.log), *Desk().handlers)).value
        == outcome.value
    )
    first = suspended(await start(Parallel.map(asks, names, limit=2), *Desk().handlers))
    assert about(first) == ["a", "b"]
    desk = Desk()
    second = suspended(await again(Parallel.map(asks, names, limit=4), first.log, *desk.handlers))
    assert about(second) == ["a", "b", "c", "d"]
    assert sorted(desk.arrived) == ["before c", "before d"]
    desk = Desk()
    third = suspended(await again(Parallel.map(asks, names, limit=1), second.log, *desk.handlers))
    assert desk.arrived == []
    assert third.log.to_json() == second.log.to_json()


@computation
async def many() -> Effectful[list[str]]:
    found = yield Parallel.map(lambda name: calls(name, name * 2).ensure(Release(name)), "abcde", limit=2)
    yield Return([*found, (yield Call("last"))])


async def test_a_crash_anywhere_performs_no_settled_call_again() -> None:
    """Whatever a crash leaves of a map with a limit, a resume comes to the same, and repeats no settled call."""
    outcome = completed(await crash_anywhere(many(), Desk()))
    assert outcome.value == ["AA", "BB", "CC", "DD", "EE", "LAST"]


async def test_always_cold() -> None:
    """7 A map with a limit comes to the same, stopped and resumed at every effect."""
    assert completed(await always_cold(many(), *Desk().handlers)).value[-1] == "LAST"


async def test_maps_in_maps() -> None:
    """A map of maps: each level has its own limit."""
    desk = Counting()

    def inner(row: str) -> Any:
        return Parallel.map(Call, [f"{row}{number}" for number in range(4)], limit=2)

    comp = Parallel.map(inner, "abc", limit=2)
    outcome = completed(await start(comp, *desk.handlers))
    assert outcome.value == [[f"{row}{number}" for number in range(4)] for row in "ABC"]
    assert desk.most <= 4
    await comes_to_the_same(comp, outcome)
