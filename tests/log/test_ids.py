"""DESIGN 6.2: ids are deterministic, and no two calls share one."""

import anyio
import pytest

from skuld_async import (
    Completed,
    CurrentCall,
    Effectful,
    Fresh,
    Log,
    Return,
    Yield,
    computation,
    current_call,
    mark_loop,
    open_session,
    rerun,
    resume,
    start,
)

from .shop import (
    Approval,
    Charge,
    Comment,
    Declined,
    Notify,
    Shop,
    World,
    completed,
    failed,
    ids,
    names,
    stored,
    suspended,
    total,
)


@computation
async def pay_once(amount: int) -> Effectful[str]:
    yield Return((yield Shop.charge(amount)))


async def test_ids_count_requests_and_calls_of_sub_computations() -> None:
    """6.2 Activations (calls of sub-computations) are numbered like effects."""

    @computation
    async def two() -> Effectful[str]:
        yield Shop.charge(1)
        yield pay_once(2)
        await pay_once(3)
        yield Return((yield Shop.charge(4)))

    log = completed(await start(two(), *World().handlers)).log

    assert ids(log) == ["0/1", "0/3", "0/5", "0/6"]


async def test_ids_inside_a_loop_hold_its_name_activation_and_iteration() -> None:
    """6.2 Ids are run / strand path / ``loop@activation#iteration`` for each enclosing mark / counter."""

    @computation
    async def looping() -> Effectful[str]:
        yield Shop.charge(0)
        for turn in range(2):
            yield mark_loop("turn")
            yield Shop.charge(turn)
            for step in range(2):
                yield mark_loop("step")
                yield Shop.charge(step)
        yield Return("done")

    @computation
    async def calling() -> Effectful[str]:
        yield Return((yield looping()))

    log = completed(await start(calling(), *World().handlers, prune_loops=False)).log

    assert ids(log) == [
        "0/2",
        "0/turn@1#1",
        "0/turn@1#1/1",
        "0/turn@1#1/step@1#1",
        "0/turn@1#1/step@1#1/1",
        "0/turn@1#1/step@1#2",
        "0/turn@1#1/step@1#2/1",
        "0/turn@1#2",
        "0/turn@1#2/1",
        "0/turn@1#2/step@1#1",
        "0/turn@1#2/step@1#1/1",
        "0/turn@1#2/step@1#2",
        "0/turn@1#2/step@1#2/1",
    ]


async def test_the_caller_counts_on_where_it_stood_when_a_marking_computation_ends() -> None:
    """6.2 Every prefix has its own counters.

    When the marking computation ends, the caller's prefix and counters go on where they stood.
    """

    @computation
    async def looping() -> Effectful[str]:
        yield Shop.charge(0)
        turn = 0
        while turn < 3:
            turn = (yield mark_loop("turn", int, carry=turn)) + 1
            yield Shop.charge(1)
        yield Return("done")

    @computation
    async def calling() -> Effectful[str]:
        yield Shop.charge(10)
        yield looping()
        yield Shop.charge(11)
        yield Approval()
        yield looping()
        yield Return((yield Shop.charge(12)))

    world = World()
    log = suspended(await start(calling(), *world.handlers, id="r")).log
    # 2 is the call, 4 the first mark, which is requested under the caller's prefix
    assert ids(log) == ["0/1", "0/3", "0/turn@2#3", "0/turn@2#3/1", "0/5", "0/6"]

    log = completed(await resume(calling(), stored(log), *world.handlers, answer="yes")).log
    assert ids(log)[6:] == ["0/8", "0/turn@7#3", "0/turn@7#3/1", "0/10"]
    assert len(set(world.keys)) == len(world.keys)


async def test_a_key_is_run_and_id() -> None:
    """6.2 Ids are the idempotency keys of external effects: `current_call()` gives key, attempt, deadline."""
    calls: list[CurrentCall] = []

    async def charge(effect: Charge) -> str:
        calls.append(current_call())
        return "ok"

    @computation
    async def one() -> Effectful[str]:
        yield total.put(1)
        yield Return((yield Charge(1)))

    await start(one(), total.handler(0), Charge.handled_by(charge), id="run-9")

    assert calls == [CurrentCall("run-9/0/2", attempt=1, deadline=None)]


async def test_a_replayed_entry_keeps_its_logged_id() -> None:
    """6.2 A replayed entry keeps its logged id, whatever the counters of today's code say; Fresh is derived from it."""

    @computation
    async def helper() -> Effectful[object]:
        yield Return((yield Fresh.uuid()))

    @computation(name="job")
    async def before() -> Effectful[str]:
        first = yield helper()
        yield Approval()
        yield Return(str(first))

    @computation(name="job")
    async def after() -> Effectful[str]:
        first = yield Fresh.uuid()  # the helper is gone: one call less
        yield Approval()
        yield Return(str(first))

    log = suspended(await start(before())).log
    old = completed(await resume(before(), log, answer="yes"))
    new = completed(await resume(after(), log, answer="yes"))

    assert ids(new.log) == ids(old.log) == ["0/2", "0/3"]
    assert new.value == old.value


@pytest.mark.parametrize("loop", [False, True])
async def test_a_refactoring_that_counts_less_never_uses_an_id_again(*, loop: bool) -> None:
    """6.2 Two calls that should happen twice never share a key, even where strict matching lets a refactoring pass."""

    @computation(name="job")
    async def before() -> Effectful[str]:
        if loop:
            yield mark_loop("turn")
        yield pay_once(1)
        yield pay_once(2)
        yield Approval()
        yield Return("done")

    @computation(name="job")
    async def after() -> Effectful[str]:
        if loop:
            yield mark_loop("turn")
        yield Shop.charge(1)  # both helpers are gone: two calls less
        yield Shop.charge(2)
        yield Approval()
        yield Shop.charge(3)
        yield Approval()
        yield Shop.charge(4)
        yield Return("done")

    world = World()
    log = suspended(await start(before(), *world.handlers)).log
    log = suspended(await resume(after(), log, *world.handlers, answer="yes")).log
    log = completed(await resume(after(), stored(log), *world.handlers, answer="yes")).log

    assert len(world.keys) == len(set(world.keys)) == 4
    assert Log.from_json(log.to_json()).to_json() == log.to_json()


async def test_a_handler_that_asks_twice_gives_each_call_a_key_of_its_own() -> None:
    """6.2 Two calls never share a key, also where a sync handler serves the requests of another handler."""
    outer: list[str] = []

    async def notify(effect: Notify) -> None:
        outer.append(current_call().key)
        await Charge(1)
        await Charge(2)
        outer.append(current_call().key)

    @computation
    async def one() -> Effectful[None]:
        yield Notify()
        yield Return(None)

    world = World()
    await start(one(), Charge.handled_by(world.charged), Notify.handled_by(notify), id="r")

    assert world.keys == ["r/0/1/1", "r/0/1/2"]
    assert outer == ["r/0/1", "r/0/1"]


async def test_an_effect_that_is_new_under_divergence_has_a_suffix() -> None:
    """6.2 An effect that is new under divergence takes a suffix ``~n``; n is kept in the header."""

    @computation(name="job")
    async def before() -> Effectful[str]:
        yield Shop.charge(1)
        yield Approval()
        yield Return("done")

    @computation(name="job")
    async def after() -> Effectful[str]:
        yield Shop.charge(9)  # new
        yield Shop.charge(1)
        yield Approval()
        yield Shop.charge(2)
        yield Return("done")

    world = World()
    log = suspended(await start(before(), *world.handlers)).log
    log = suspended(await resume(after(), log, *world.handlers, allow_divergence=True)).log
    assert ids(log) == ["0/1~1", "0/1", "0/2"]
    assert log.header.suffix == 1

    log = completed(await resume(after(), stored(log), *world.handlers, answer="yes")).log
    assert ids(log) == ["0/1~1", "0/1", "0/2", "0/4~1"]
    assert len(set(world.keys)) == len(world.keys) == 3


async def test_each_cut_of_a_rerun_has_a_suffix_of_its_own() -> None:
    """6.2 An effect that follows a rerun's cut takes a suffix that this log has never used."""

    @computation
    async def pay() -> Effectful[str]:
        paid = yield Shop.pay(1)
        yield Notify("paid")
        yield Return(paid)

    world = World(*[Declined(number) for number in range(3)])
    log = failed(await start(pay(), *world.handlers, id="r")).log
    log = failed(await rerun(pay(), stored(log), *world.handlers)).log
    log = failed(await rerun(pay(), stored(log), *world.handlers)).log
    log = completed(await rerun(pay(), stored(log), *world.handlers)).log

    assert world.keys == ["r/0/1", "r/0/1~1", "r/0/1~2", "r/0/1~3", "r/0/2~3"]
    assert log.header.suffix == 3


async def test_keys_stay_unique_however_often_the_log_is_pruned_and_resumed() -> None:
    """6.2 Two calls that should happen twice never share a key, however often the log was pruned and resumed."""

    @computation
    async def turn(number: int) -> Effectful[int]:
        for step in range(2):
            yield mark_loop("step")
            yield Shop.charge(step)
        yield Return(number + 1)

    @computation
    async def conversation() -> Effectful[str]:
        yield Shop.charge(0)
        number = 0
        while True:
            number = yield mark_loop("conversation", int, carry=number)
            yield Comment()
            number = yield turn(number)
            number = (yield turn(number)) - 1
            yield Notify()
            if number == 20:
                yield Return("done")
                return

    world = World()
    outcome = await start(conversation(), *world.handlers)
    while not isinstance(outcome, Completed):
        outcome = await resume(conversation(), stored(outcome.log), *world.handlers, answer="go on")

    assert len(world.calls) == 1 + 20 * 5
    assert len(set(world.keys)) == len(world.keys)


async def test_two_attempts_at_one_call_share_their_key() -> None:
    """6.2 Two attempts at one call always share a key.

    Here the first was cut off by its host, in a loop, after a cold resume.
    """
    out = anyio.Event()
    keys: list[str] = []

    async def charge(effect: Charge) -> str:
        keys.append(current_call().key)
        if len(keys) == 1:
            out.set()
            await anyio.sleep_forever()
        return "ok"

    @computation
    async def looping() -> Effectful[str]:
        while True:
            yield mark_loop("turn")
            yield Comment()
            yield Charge(1)
            yield Return("done")
            return

    log = suspended(await start(looping(), Charge.handled_by(charge), id="r")).log
    async with open_session(looping(), Charge.handled_by(charge), log=log) as session:
        await session.outcome()
        await session.answer("go on")
        await out.wait()
    assert session.log.entries[-1].state == "started"
    completed(await resume(looping(), stored(session.log), Charge.handled_by(charge)))

    assert keys == ["r/0/turn@0#1/2"] * 2


async def test_a_question_has_a_key_like_any_effect() -> None:
    """6.2 A question is numbered like any effect, so that its wait can be found again."""

    @computation
    async def asks() -> Effectful[str]:
        yield Shop.charge(1)
        yield Return((yield Yield.of("which?")))

    outcome = suspended(await start(asks(), *World().handlers))

    assert outcome.wait is not None
    assert outcome.wait.id == "0/2"
    assert names(outcome.log)[-1] == "Yield.of"
