"""The log of a concurrent run: readable, editable, the same after a round trip; loops in branches and around."""

from typing import Any

import anyio
import msgspec
import pytest

from skuld_async import (
    Computation,
    DivergenceError,
    Effectful,
    Entry,
    Fresh,
    Log,
    LogDecodeError,
    Parallel,
    Random,
    Return,
    Won,
    computation,
    mark_loop,
    open_session,
    replay,
    start,
)
from skuld_async.testing import always_cold

from .parts import (
    Ask,
    Call,
    Desk,
    again,
    asks,
    calls,
    cancelled,
    comes_to_the_same,
    completed,
    counter,
    crash_anywhere,
    failed,
    ids,
    notes,
    states,
    stored,
    suspended,
    tells,
    waits_by_name,
)


@computation
async def mixed() -> Effectful[list[Any]]:
    one, two = yield Parallel.all(tells("a", "b"), Parallel.race(x=calls("c"), y=asks("never")))
    found = yield Parallel.map(asks, ["d", "e"], limit=1)
    yield Return([one, two.name, *found])


async def test_a_log_of_branches_goes_through_json_and_messagepack() -> None:
    """6.12 One self-contained document: what was decided about branches is in it, and reads back as it was."""
    outcome = suspended(await start(mixed(), *Desk().handlers))
    log = outcome.log
    for copy in (Log.from_json(log.to_json()), Log.from_msgpack(log.to_msgpack())):
        assert copy == log
        assert copy.to_json() == log.to_json()
    document = msgspec.json.decode(log.to_json())
    race = next(entry for entry in document["entries"] if entry["sig"] == "Parallel.race")
    assert race["strands"]["won"] == "x"
    ended = completed(await answered(mixed(), outcome.log))
    assert ended.value == [2, "x", "d: yes", "e: yes"]
    await comes_to_the_same(mixed(), ended)


async def answered(comp: Computation[Any], log: Log) -> Any:
    outcome: Any = None
    while log.waits:
        outcome = await again(comp, log, *Desk().handlers, answer="yes", to=log.waits[0])
        log = outcome.log
    return outcome


def edited(log: Log, before: bytes, after: bytes) -> Log:
    data = log.to_json()
    assert data.count(before) == 1
    return Log.from_json(data.replace(before, after))


async def test_a_value_in_a_branch_may_be_edited() -> None:
    """6.12 A hand-edited value is honoured, in a branch as elsewhere."""
    comp = Parallel.all(calls("a", "b"), asks("c"))
    log = suspended(await start(comp, *Desk().handlers)).log
    outcome = completed(
        await again(comp, edited(log, b'"value":"B"', b'"value":"edited"'), *Desk().handlers, answer="x")
    )
    assert outcome.value == ("edited", "c: x")


@pytest.mark.parametrize("winner", ["b", "nobody"])
async def test_a_winner_that_does_not_return_is_a_divergence(winner: str) -> None:
    """6.4 Whoever has won in the log must return: a winner without a result is no failure of the run."""

    @computation
    async def body() -> Effectful[str]:
        won = yield Parallel.race(a=calls("x"), b=calls("x", "hang"))
        yield Return(f"{won.value} {yield Ask('more?')}")

    log = suspended(await start(body(), *Desk().handlers)).log
    desk = Desk()
    with pytest.raises(DivergenceError, match=f"branch {winner} has won 0/2, but does not return now"):
        await again(body(), edited(log, b'"won":"a"', f'"won":"{winner}"'.encode()), *desk.handlers, answer="yes")
    assert desk.arrived == []


@pytest.mark.parametrize(
    "broken",
    [
        {"strands": {"won": 1}},
        {"strands": {"stopped": "0/1"}},
        {"strands": {"unknown": True}},
        {"strands": []},
        {"deadline": "tomorrow"},
    ],
)
async def test_damage_to_what_was_decided_is_found(broken: dict[str, Any]) -> None:
    """6.12 Structural damage gives `LogDecodeError`, nothing else."""
    log = completed(await start(Parallel.all(Call("a")), *Desk().handlers)).log
    document = msgspec.json.decode(log.to_json())
    document["entries"][0].update(broken)
    with pytest.raises(LogDecodeError):
        Log.from_json(msgspec.json.encode(document))


@pytest.mark.parametrize("path", ["0/1.9/1", "0/1.1.1/1", "0/1./1"])
async def test_an_entry_that_no_branch_comes_to(path: str) -> None:
    """6.4 An unconsumed tail is a divergence, also that of a branch that the code does not have."""
    comp = Parallel.all(calls("a"), asks("b"))
    log = stored(suspended(await start(comp, *Desk().handlers)).log)
    log.entries.append(Entry(path, Call.__sig__, msgspec.Raw(b'{"name":"stray"}'), "executed"))
    with pytest.raises(DivergenceError, match="the log goes on with Call"):
        await again(comp, log, *Desk().handlers, answer="yes")


@pytest.mark.parametrize("path", ["0/7.1/1", "0/7.1/2.1/1", "0/1.1/9.x/1"])
async def test_a_strand_that_nobody_opens(path: str) -> None:
    """6.12 Nothing in the log opens that strand: nobody waits for it, neither a race nor a cancel."""
    comp = Parallel.race(a=asks("a"), b=asks("b"))
    log = stored(suspended(await start(comp, *Desk().handlers)).log)
    log.entries.append(Entry(path, Call.__sig__, msgspec.Raw(b'{"name":"stray"}'), "executed"))
    with anyio.fail_after(5):
        outcome = completed(await again(comp, log, *Desk().handlers, answer="x", to=log.waits[0]))
        assert outcome.value.value.endswith(": x")
        async with open_session(comp, *Desk().handlers, log=log) as session:
            cancelled(await session.cancel())


async def test_ids_are_unique_and_say_where() -> None:
    """6.2 Every id is unique in its log, and is the path of its strand with a number behind it."""
    outcome = completed(await answered(mixed(), suspended(await start(mixed(), *Desk().handlers)).log))
    assert len(states(outcome.log)) == len(outcome.log.entries)
    opened = {entry.id for entry in outcome.log.entries if entry.sig.startswith("Parallel.")}
    for one in ids(outcome.log):
        if "." in one:
            assert one.rpartition(".")[0] in opened


async def test_derived_values_differ_between_branches() -> None:
    """6.3 What is derived (Fresh, Random) is derived from the id: no two branches get the same, each replay does."""

    @computation
    async def draws() -> Effectful[list[str]]:
        yield Return([f"{yield Fresh.uuid()}", f"{yield Random.int(0, 10**9)}"])

    comp = Parallel.all(draws(), draws(), Parallel.all(draws(), draws()))
    outcome = completed(await start(comp, id="r", seed="s"))
    one, two, (three, four) = outcome.value
    assert len({*one, *two, *three, *four}) == 8
    assert completed(await start(comp, id="r", seed="s")).value == outcome.value
    assert completed(await replay(comp, stored(outcome.log))).value == outcome.value


# -- loops -----------------------------------------------------------------------------------------------------------


@computation
async def turns(name: str, count: int) -> Effectful[int]:
    """A loop with a mark, which carries how often it went around."""
    turn = 0
    while True:
        turn = yield mark_loop("turn", int, carry=turn)
        if turn == count:
            yield Return(turn)
            return
        yield counter.modify(lambda value: value + 1)
        yield notes.tell(f"{name}{turn}")
        yield Call(f"{name}{turn}")
        turn += 1


async def test_loops_inside_branches_prune_their_own_strand() -> None:
    """6.10 A mark in a branch prunes finished turns of that branch, and nothing of its siblings."""
    comp = Parallel.all(turns("a", 5), turns("b", 3), calls("c", "d"))
    outcome = completed(await start(comp, *Desk().handlers))
    assert outcome.value == (5, 3, "D")
    by_strand = [sum(one.startswith(f"0/1.{number}/") for one in ids(outcome.log)) for number in (1, 2, 3)]
    assert by_strand == [1, 1, 2]
    assert outcome.output(notes) == [*(f"a{n}" for n in range(5)), *(f"b{n}" for n in range(3))]
    await comes_to_the_same(comp, outcome)


async def test_a_loop_in_a_branch_goes_on_from_its_mark() -> None:
    """6.10 After a cold resume the loop of each branch goes on from its own mark, with its carry, state and notes."""

    @computation
    async def chats(name: str) -> Effectful[list[str]]:
        heard: list[str] = []
        while True:
            heard = yield mark_loop("chat", list[str], carry=heard)
            if len(heard) == 3:
                yield Return([*heard, f"{yield counter.get()}"])
                return
            yield counter.modify(lambda value: value + 1)
            yield notes.tell(f"{name}{len(heard)}")
            heard = [*heard, (yield Ask(name))]

    comp = Parallel.all(chats("a"), chats("b"))
    log = suspended(await start(comp, *Desk().handlers)).log
    outcome: Any = None
    for number, name in enumerate("abbaab"):
        wait = waits_by_name(suspended(await again(comp, log, *Desk().handlers)))[name]
        outcome = await again(comp, log, *Desk().handlers, answer=f"{name}{number}", to=wait)
        log = outcome.log
    assert completed(outcome).value == (["a0", "a3", "a4", "3"], ["b1", "b2", "b5", "3"])
    assert outcome.output(notes) == ["a0", "a1", "a2", "b0", "b1", "b2"]
    assert outcome.state(counter) == 0


@computation
async def rounds(count: int) -> Effectful[list[int]]:
    """A loop whose turns each open branches."""
    done = 0
    while True:
        done = yield mark_loop("round", int, carry=done)
        if done == count:
            yield Return([done, (yield counter.get())])
            return
        yield counter.modify(lambda value: value + 1)
        yield Parallel.all(calls(f"a{done}"), tells(f"b{done}"), Parallel.race(x=calls(f"c{done}"), y=asks("never")))
        done += 1


async def test_concurrent_effects_inside_loops_are_pruned_with_their_branches() -> None:
    """6.10 A pruned turn takes its branches along: the log stays as small as one turn."""
    sizes: list[int] = []
    for count in (1, 2, 10):
        outcome = completed(await start(rounds(count), *Desk().handlers))
        assert outcome.value == [count, count]
        assert outcome.output(notes) == [f"b{number}" for number in range(count)]
        sizes.append(len(outcome.log.entries))
        await comes_to_the_same(rounds(count), outcome)
    assert sizes == [sizes[0]] * 3
    assert not any("." in one for one in ids(outcome.log))


async def test_pruned_turns_leave_their_keys_behind() -> None:
    """6.2 Turn after turn the branches get keys of their own, however often the log was pruned and resumed."""
    desk = Desk()
    await crash_anywhere(rounds(4), desk)
    assert len(set(desk.keys)) == len(desk.keys)


async def test_a_branch_that_waits_holds_its_turn() -> None:
    """6.10 A turn that waits in a branch is suspended and resumed cold; then it is pruned like any other."""

    @computation
    async def meets() -> Effectful[list[str]]:
        said: list[str] = []
        while True:
            said = yield mark_loop("meeting", list[str], carry=said)
            if len(said) >= 6:
                yield Return(said)
                return
            found = yield Parallel.map(asks, [f"a{len(said)}", f"b{len(said)}"])
            said = [*said, *found]

    outcome: Any = await start(meets(), *Desk().handlers)
    sizes: set[int] = set()
    while outcome.log.waits:
        sizes.add(len(outcome.log.entries))
        outcome = await again(meets(), outcome.log, *Desk().handlers, answer="yes", to=outcome.log.waits[0])
    assert completed(outcome).value == [f"{name}{turn}: yes" for turn in (0, 2, 4) for name in "ab"]
    assert max(sizes) <= 1 + 1 + 2 * 2 + 1
    await comes_to_the_same(meets(), outcome)


async def test_always_cold() -> None:
    """7 Loops in branches and branches in loops come to the same, stopped and resumed at every effect."""

    @computation
    async def both() -> Effectful[list[int]]:
        done = 0
        while True:
            done = yield mark_loop("outer", int, carry=done)
            if done == 2:
                yield Return([done, (yield counter.get())])
                return
            yield Parallel.all(turns(f"a{done}", 2), tells(f"b{done}"))
            yield counter.put(done)
            done += 1

    outcome = completed(await always_cold(both(), *Desk().handlers))
    assert outcome.value == [2, 1]


# -- pruned branches -------------------------------------------------------------------------------------------------


@computation
async def gathers() -> Effectful[list[Any]]:
    one, two = yield Parallel.all(tells("a", "b"), tells("c"))
    won = yield Parallel.race(x=calls("d"), y=asks("never"))
    found = yield Parallel.map(calls, ["e", "f"], limit=1)
    yield Return([one, two, won.name, won.value, *found, (yield notes.peek())])


async def test_branches_may_be_pruned() -> None:
    """``prune_branches``: a concurrent effect that has ended is one entry, with its typed results and what was told."""
    kept = completed(await start(gathers(), *Desk().handlers))
    outcome = completed(await start(gathers(), *Desk().handlers, prune_branches=True))
    assert outcome.value == kept.value == [2, 1, "x", "D", "E", "F", ["a", "b", "c"]]
    assert outcome.cells == kept.cells
    assert not any("." in one for one in ids(outcome.log))
    assert len(outcome.log.entries) < len(kept.log.entries)
    await comes_to_the_same(gathers(), outcome)


async def test_a_crash_anywhere_with_pruned_branches() -> None:
    """``prune_branches``: whatever a crash leaves, a resume comes to the same, and repeats no settled call."""
    outcome = completed(await crash_anywhere(gathers(), Desk(), prune_branches=True))
    assert outcome.value[0] == 2


async def test_failed_branches_are_kept() -> None:
    """``prune_branches``: what failed is kept with the entry that failed it."""
    desk = Desk(errors={"bad": ValueError("bad")})
    comp = Parallel.all(calls("a"), calls("bad"))
    outcome = failed(await start(comp, *desk.handlers, prune_branches=True))
    assert outcome.log.header.cause == "0/1.2/1"
    assert "0/1.2/1" in states(outcome.log)


async def test_a_won_struct_stands_in_the_log() -> None:
    """6.11 `Won` round-trips as the result of a run, typed by who asks for it."""

    @computation
    async def body() -> Effectful[Won[str]]:
        yield Return((yield Parallel.race(a=calls("x"), b=asks("never"))))

    outcome = completed(await start(body(), *Desk().handlers))
    assert outcome.value == Won("a", "X")
    assert completed(await replay(body(), stored(outcome.log), *Desk().handlers)).value == Won("a", "X")
