"""DESIGN 6.10: mark_loop checkpoints state and carry, and prunes finished iterations."""

import json
from typing import Any

import pytest
from msgspec import UNSET, Raw, Struct

from skuld_async import (
    Completed,
    Computation,
    DeclarationError,
    Effectful,
    Fresh,
    Handler,
    Log,
    MisuseError,
    Outcome,
    Return,
    State,
    UndecodableError,
    UnencodableError,
    computation,
    mark_loop,
    resume,
    start,
)

from .shop import (
    Charge,
    Comment,
    Notify,
    Placed,
    Shop,
    World,
    cart,
    completed,
    events,
    ids,
    left,
    names,
    stored,
    suspended,
    total,
)


async def talk(
    comp: Computation[str], *handlers: Handler, prune_loops: bool = True
) -> tuple[list[Log], Completed[str]]:
    """Run *comp* to its end, with a cold resume for each question; the log at each question, and the end."""
    logs: list[Log] = []
    outcome: Outcome[str] = await start(comp, *handlers, prune_loops=prune_loops)
    while not isinstance(outcome, Completed):
        logs.append(stored(suspended(outcome).log))
        outcome = await resume(comp, logs[-1], *handlers, answer="on", prune_loops=prune_loops)
    return logs, outcome


class Message(Struct, frozen=True):
    role: str
    text: str


@computation
async def conversation(turns: int) -> Effectful[str]:
    messages: list[Message] = []
    turn = 0
    while True:
        messages = yield mark_loop("conversation", list[Message], carry=messages)
        text = yield Comment()
        yield total.modify(lambda count: count + 1)
        yield events.emit(Placed(1)) if turn < 0 else total.get()
        reply = yield Charge(1)
        messages = [*messages, Message("user", text), Message("shop", reply)][-6:]
        turn = yield total.get()
        if turn == turns:
            yield Return(f"{turn} {len(messages)}")
            return


async def test_a_pruned_log_is_as_small_as_one_turn() -> None:
    """6.10 Entries O(current iteration), bytes O(carry + state): constant over 100 turns with 100 cold resumes."""
    world = World()
    logs, outcome = await talk(conversation(100), *world.handlers, total.handler(0), events.handler())

    assert outcome.value == "100 6"
    assert len(logs) == 100
    assert {len(log.entries) for log in logs} == {2}
    sizes = [len(log.to_json()) for log in logs[20:]]
    assert max(sizes) - min(sizes) <= 8  # the digits of the counters
    assert len(world.calls) == 100
    assert len(set(world.keys)) == 100


async def test_without_pruning_every_iteration_stays() -> None:
    """6.10 Finished iterations are pruned at once (`prune_loops=True`, the default); with False they stay."""
    world = World()
    logs, outcome = await talk(conversation(12), *world.handlers, total.handler(0), events.handler(), prune_loops=False)

    assert outcome.value == "12 6"
    assert [len(log.entries) for log in logs] == [2 + 6 * turn for turn in range(12)]
    assert len(world.calls) == 12


async def test_a_log_may_be_resumed_with_the_other_setting() -> None:
    """6.10 A log that was written without pruning goes on with it, and the other way round."""
    world = World()
    handlers = [*world.handlers, total.handler(0), events.handler()]
    outcome: Outcome[str] = await start(conversation(8), *handlers)
    prune = True
    while not isinstance(outcome, Completed):
        prune = not prune
        outcome = await resume(conversation(8), stored(outcome.log), *handlers, answer="on", prune_loops=prune)

    assert outcome.value == "8 6"
    assert len(world.calls) == 8


async def test_the_root_mark_is_never_pruned() -> None:
    """6.10 What stands before the first mark is never pruned."""

    @computation
    async def loops() -> Effectful[str]:
        yield Charge(1)
        turn = 0
        while turn < 5:
            turn = (yield mark_loop("turn", int, carry=turn)) + 1
            yield Comment()
        yield Return("done")

    logs, _ = await talk(loops(), *World().handlers)

    assert [ids(log) for log in logs] == [["0/1", f"0/turn@0#{turn}", f"0/turn@0#{turn}/1"] for turn in range(1, 6)]


async def test_the_first_arrival_gives_the_carry_back() -> None:
    """6.10 The first arrival after a cold resume gives the carry back, decoded.

    The next ones take what the body carries.
    """

    @computation
    async def collects() -> Effectful[str]:
        words: list[str] = []
        while len(words) < 4:
            words = yield mark_loop("words", list[str], carry=words)
            words = [*words, (yield Comment())]
        yield Return(",".join(words))

    outcome: Outcome[str] = await start(collects())
    for word in ("a", "b", "c", "d"):
        outcome = await resume(collects(), stored(outcome.log), answer=word)

    assert completed(outcome).value == "a,b,c,d"


async def test_the_snapshot_replaces_handler_state() -> None:
    """6.10 The first arrival **replaces** handler state by the snapshot.

    `handler(init)` is ignored where it has the key.
    """

    @computation
    async def loops() -> Effectful[list[str]]:
        yield cart.put(["before"])
        yield events.emit(Placed(1))
        while True:
            yield mark_loop("turn")
            yield cart.modify(lambda items: [*items, "turn"])
            yield events.emit(Placed(2))
            answer = yield Comment()
            if answer == "end":
                yield Return((yield cart.get()))
                return

    log = suspended(await start(loops(), cart.handler(["initial"]), events.handler())).log
    log = suspended(await resume(loops(), stored(log), cart.handler(["initial"]), events.handler(), answer="on")).log
    assert "State[cart].get" not in names(log)

    outcome = completed(await resume(loops(), stored(log), cart.handler(["another"]), events.handler(), answer="end"))
    assert outcome.value == ["before", "turn", "turn"]
    assert outcome.state(cart) == ["before", "turn", "turn"]
    assert outcome.output(events) == [Placed(1), Placed(2), Placed(2)]


async def test_snapshots_of_inner_scopes_are_kept_apart() -> None:
    """6.10 A snapshot's keys are scope path + family + name: the same key in two scopes is two cells."""

    @computation
    async def inner() -> Effectful[str]:
        while True:
            yield mark_loop("turn")
            count = yield total.modify(lambda number: number + 1)
            yield Comment()
            if count == 3:
                yield Return(str(count))
                return

    @computation
    async def outer() -> Effectful[str]:
        yield total.put(50)
        inside = yield inner().handle(total.handler(0))
        yield Return(f"{inside} {(yield total.get())}")

    logs, outcome = await talk(outer(), total.handler(7))

    assert outcome.value == "3 50"
    mark = logs[-1].entries[1].mark
    assert mark is not UNSET
    assert {key: bytes(value) for key, value in mark.cells.items()} == {"0/2:State[total]": b"2", "State[total]": b"50"}


async def test_a_state_that_was_put_as_something_else_is_the_same_with_and_without_a_cold_resume() -> None:
    """6.3, 6.10 State after a cold resume equals state before it, at a mark too, in whatever shape it was put."""
    loose: State[Any] = State("loose", Any)

    @computation
    async def loops() -> Effectful[str]:
        yield loose.put((1, 2))
        turn = 0
        while turn < 2:
            turn = (yield mark_loop("turn", int, carry=turn)) + 1
            yield Comment()
        yield Return(repr((yield loose.get())))

    straight = await start(loops(), loose.handler(None), Comment.always("on"))
    _, cold = await talk(loops(), loose.handler(None))

    assert completed(straight).value == cold.value


async def test_nested_loops_prune_by_their_hierarchy() -> None:
    """6.10 Nested loops are pruned by their hierarchy.

    An outer turn ends the inner loop, an inner one leaves the outer alone.
    """

    @computation
    async def nested() -> Effectful[str]:
        outer = 0
        while outer < 3:
            outer = yield mark_loop("outer", int, carry=outer)
            yield Notify(f"outer {outer}")
            inner = 0
            while inner < 3:
                inner = yield mark_loop("inner", int, carry=inner)
                yield Comment(f"{outer} {inner}")
                inner += 1
            outer += 1
        yield Return("done")

    world = World()
    logs, _ = await talk(nested(), *world.handlers)

    assert [ids(log) for log in logs] == [
        [
            f"0/outer@0#{outer}",
            f"0/outer@0#{outer}/1",
            f"0/outer@0#{outer}/inner@0#{inner}",
            f"0/outer@0#{outer}/inner@0#{inner}/1",
        ]
        for outer in (1, 2, 3)
        for inner in (1, 2, 3)
    ]
    assert world.calls == ["notify outer 0", "notify outer 1", "notify outer 2"]


async def test_a_loop_in_a_computation_that_is_called_twice_is_two_loops() -> None:
    """6.10 A loop is strand + activation of the computation + id."""

    @computation
    async def asks_twice(label: str) -> Effectful[str]:
        said = ""
        while len(said) < 2:
            said = yield mark_loop("ask", str, carry=said)
            said += (yield Comment(label))[0]
        yield Charge(1)
        yield Return(said)

    @computation
    async def calls_twice() -> Effectful[str]:
        first = yield asks_twice("first")
        second = yield asks_twice("second")
        yield Return(f"{first} {second}")

    world = World()
    logs, outcome = await talk(calls_twice(), *world.handlers)

    assert outcome.value == "oo oo"
    assert [log.waits[0].id for log in logs] == ["0/ask@1#1/1", "0/ask@1#2/1", "0/ask@3#1/1", "0/ask@3#2/1"]
    assert len(set(world.keys)) == len(world.keys) == 2


async def test_a_key_tells_runs_of_one_loop_apart() -> None:
    """6.10 ``key=`` tells apart runs of the same loop in one activation."""

    @computation
    async def orders(*, keyed: bool) -> Effectful[str]:
        for order in ("a", "b"):
            done = 0
            while done < 2:
                done = yield mark_loop("order", int, carry=done, key=order if keyed else None)
                yield Comment(order)
                done += 1
        yield Return("done")

    logs, _ = await talk(orders(keyed=True))
    assert [log.waits[0].id for log in logs] == [
        "0/order:a@0#1/1",
        "0/order:a@0#2/1",
        "0/order:a@0#2/order:b@0#1/1",
        "0/order:a@0#2/order:b@0#2/1",
    ]


@pytest.mark.parametrize("prune", [True, False])
async def test_two_loops_one_after_the_other(*, prune: bool) -> None:
    """6.10 A second loop in the same computation stands behind the first one's last iteration.

    It prunes only itself.
    """

    @computation
    async def two_loops() -> Effectful[str]:
        one = 0
        while one < 3:
            one = (yield mark_loop("one", int, carry=one)) + 1
            yield Notify(f"one {one}")
            yield Comment("one")
        two = 0
        while two < 3:
            two = (yield mark_loop("two", int, carry=two)) + 1
            yield Notify(f"two {two}")
            yield Comment("two")
        yield Charge(1)
        yield Return(f"{one} {two}")

    world = World()
    logs, outcome = await talk(two_loops(), *world.handlers, prune_loops=prune)

    assert outcome.value == "3 3"
    assert world.calls == [*(f"notify {loop} {turn}" for loop in ("one", "two") for turn in (1, 2, 3)), "charge 1"]
    assert len(set(world.keys)) == 7
    if prune:
        assert ids(logs[-1]) == [
            "0/one@0#3",
            "0/one@0#3/1",
            "0/one@0#3/2",
            *(f"0/one@0#3/two@0#3{end}" for end in ("", "/1", "/2")),
        ]


async def test_state_keys_choose_what_marks_keep() -> None:
    """6.10, 6.13 ``state_keys`` names the cells that marks keep.

    The others are scratch, written anew in each iteration.
    """

    @computation
    async def loops() -> Effectful[str]:
        while True:
            yield mark_loop("turn")
            yield cart.put(["x"])
            count = yield total.modify(lambda number: number + 1)
            yield Comment()
            if count == 3:
                yield Return(str(len((yield cart.get()))))
                return

    handlers = [total.handler(0), cart.handler([])]
    outcome: Outcome[str] = await start(loops(), *handlers, state_keys=["State[total]"])
    while not isinstance(outcome, Completed):
        log = stored(outcome.log)
        mark = log.entries[0].mark
        assert mark is not UNSET
        assert list(mark.cells) == ["State[total]"]
        outcome = await resume(loops(), log, *handlers, answer="on", state_keys=["State[total]"])

    assert outcome.value == "1"


async def test_digests_of_settled_answers_outlive_pruning() -> None:
    """6.10 Settled answers' digests outlive pruning (the last 16)."""
    logs, outcome = await talk(conversation(20), *World().handlers, total.handler(0), events.handler())

    assert [len(log.header.settled) for log in logs] == [*range(17), 16, 16, 16]
    assert [settled.wait for settled in outcome.log.header.settled] == [
        f"0/conversation@0#{turn}/1" for turn in range(5, 21)
    ]
    assert all(len(settled.digest) == 16 for settled in outcome.log.header.settled)


async def test_derived_values_stay_new_in_each_iteration() -> None:
    """6.2, 6.10 Pruning never brings an old id back: Fresh gives a new value in each iteration of each resume."""
    seen: list[str] = []

    @computation
    async def loops() -> Effectful[str]:
        turn = 0
        while turn < 10:
            turn = (yield mark_loop("turn", int, carry=turn)) + 1
            yield Comment()
            seen.append(str((yield Fresh.uuid())))
        yield Return("done")

    await talk(loops())

    assert len(seen) == len(set(seen)) == 10


async def test_a_carry_is_checked_where_it_is_marked() -> None:
    """6.10, 6.11 A carry that does not fit its type is refused at that effect, and nothing is pruned before."""

    @computation
    async def loops(carry: str) -> Effectful[str]:
        yield Charge(1)
        number: object = 0
        while True:
            yield mark_loop("turn", int, carry=number)
            yield Charge(2)
            number = float("nan") if carry == "nan" else carry

    for carry, problem in (("nan", "nan"), ("text", "Expected `int`, got `str`")):
        with pytest.raises(UnencodableError, match=problem) as caught:
            await start(loops(carry), *World().handlers)
        assert f"{__file__}:" in caught.value.line
        assert ids(left(caught.value)) == ["0/1", "0/turn@0#1", "0/turn@0#1/1"]


def test_a_carry_needs_its_type() -> None:
    """6.10 A carry needs its type: an ambiguous one is refused where it is declared."""
    with pytest.raises(DeclarationError):
        mark_loop("turn", list[int] | set[int], carry=[1])
    for name in ("a@b", "a#b", "a/b", "a~b"):
        with pytest.raises(DeclarationError, match="names cannot hold"):
            mark_loop(name)


async def test_a_handler_marks_no_loops() -> None:
    """6.10 A loop belongs to a computation: a handler that marks one is refused."""

    async def notify(effect: Notify) -> None:
        await mark_loop("turn")

    @computation
    async def notifies() -> Effectful[None]:
        yield Notify()
        yield Return(None)

    with pytest.raises(MisuseError, match="a handler marks no loops"):
        await start(notifies(), Notify.handled_by(notify))


async def test_a_snapshot_or_carry_that_todays_types_cannot_read_is_an_error() -> None:
    """6.11 The undecodable is an error, never None: in a mark's cells and in its carry."""
    log = suspended(await start(conversation(2), *World().handlers, total.handler(0), events.handler())).log
    for change in ("carry", "cells"):
        document = json.loads(log.to_json())
        if change == "carry":
            document["entries"][0]["value"] = 7
        else:
            document["entries"][0]["mark"]["cells"]["State[total]"] = "seven"
        broken = Log.from_json(json.dumps(document))
        stood = broken.to_json()
        with pytest.raises(UndecodableError) as caught:
            await resume(conversation(2), broken, *World().handlers, total.handler(0), events.handler(), answer="on")
        assert caught.value.entry == "0/conversation@0#1"
        assert left(caught.value).to_json() == broken.to_json() == stood


async def test_an_edited_carry_is_honoured() -> None:
    """6.10, 6.12 A hand-edited carry is what the first arrival gives back."""

    @computation
    async def counts() -> Effectful[str]:
        number = 0
        while True:
            number = yield mark_loop("count", int, carry=number)
            yield Comment()
            yield Return(str(number))
            return

    log = suspended(await start(counts())).log
    log.entries[0].value = Raw(b"42")

    assert completed(await resume(counts(), stored(log), answer="on")).value == "42"


async def test_effects_after_the_loop_follow_it() -> None:
    """6.10 A loop that has ended leaves its last iteration in the log, and the run goes on behind it."""

    @computation
    async def loops() -> Effectful[str]:
        turn = 0
        while turn < 3:
            turn = (yield mark_loop("turn", int, carry=turn)) + 1
        receipt = yield Shop.charge(turn)
        yield Comment()
        yield Return(receipt)

    world = World()
    logs, outcome = await talk(loops(), *world.handlers)

    assert outcome.value == "receipt 3"
    assert ids(logs[0]) == ["0/turn@0#3", "0/turn@0#3/1", "0/turn@0#3/2"]
    assert world.calls == ["charge 3"]
