"""DESIGN 6.1: entries, their order and their states; what the header binds."""

import anyio
import pytest
from msgspec import UNSET

from skuld_async import Clock, Effectful, Fresh, Log, Return, Throw, computation, open_session, resume, start
from skuld_async.log.entry import FORMAT, Status

from .shop import (
    Approval,
    Charge,
    Notify,
    Placed,
    Shop,
    World,
    cancelled,
    cart,
    client,
    completed,
    events,
    failed,
    ids,
    limit,
    names,
    states,
    suspended,
    total,
)


@computation(name="order", version="7")
async def order(number: int, note: str = "none") -> Effectful[str]:
    receipt = yield Shop.charge(number)
    decision = yield Approval(number)
    if decision == "no":
        yield Throw(ValueError("refused"))
    yield Return(f"{receipt}, {note}")


async def test_every_effect_that_reaches_a_handler_has_one_entry_in_starting_order() -> None:
    """6.1 Every effect that reaches a handler under a logger has an entry, in starting order."""

    @computation
    async def everything() -> Effectful[None]:
        yield cart.put(["book"])
        yield cart.modify(lambda items: [*items, "pen"])
        yield cart.get()
        yield limit.ask()
        yield client.ask()
        yield Clock.now()
        yield Fresh.uuid()
        yield events.emit(Placed(1))
        yield Shop.charge(1)
        yield Approval.of("anything")
        yield Return(None)

    handlers = [cart.handler([]), limit.handler(1), client.handler(object()), events.handler(), *World().handlers]
    log = suspended(await start(everything(), *handlers)).log

    assert names(log) == [
        "State[cart].put",
        "State[cart].modify",
        "State[cart].get",
        "Reader[limit].ask",
        "Clock.now",
        "Fresh.uuid",
        "EventAccumulator[shop].emit",
        "Shop.charge",
        "Yield.of",
    ]
    assert states(log) == ["executed"] * 8 + ["started"]


async def test_an_effect_requested_by_a_handler_stands_behind_the_one_it_answers() -> None:
    """6.1 Entries stand in starting order: an effect that a handler requests starts after the one that it answers."""

    async def charge(effect: Charge) -> str:
        await Notify("charging")
        return await Shop.charge(effect.amount)

    @computation
    async def order_by_handler() -> Effectful[str]:
        yield Return((yield Charge(3)))

    world = World()
    log = completed(await start(order_by_handler(), *world.handlers, Charge.handled_by(charge))).log

    assert names(log) == ["Charge", "Notify", "Shop.charge"]
    assert ids(log) == ["0/1", "0/1/1", "0/1/2"]


async def test_an_entry_is_started_while_its_call_is_out_and_executed_after_it() -> None:
    """6.1 An entry is `started`, then `executed` with its value."""
    log = Log()
    seen: list[str] = []

    async def charge(effect: Charge) -> str:
        await anyio.lowlevel.checkpoint()
        seen.append(log.entries[-1].state)
        return "receipt"

    @computation
    async def one() -> Effectful[str]:
        yield Return((yield Charge(1)))

    await start(one(), Charge.handled_by(charge), into=log)

    assert seen == ["started"]
    assert log.entries[0].state == "executed"
    assert bytes(log.entries[0].value) == b'"receipt"'


async def test_an_entry_whose_call_raised_is_discarded_with_its_error() -> None:
    """6.1 An entry is `discarded` with its error where it raised."""

    @computation
    async def one() -> Effectful[str]:
        try:
            yield Shop.charge(1)
        except TimeoutError:
            yield Return("caught")

    log = completed(await start(one(), *World(TimeoutError("slow")).handlers)).log

    entry = log.entries[0]
    assert entry.state == "discarded"
    assert entry.error is not UNSET
    assert (entry.error.type, entry.error.message) == ("builtins:TimeoutError", "slow")


async def test_an_entry_whose_strand_was_abandoned_is_discarded() -> None:
    """6.1 An entry is `discarded` where its strand was abandoned.

    Here by a run cancel, in the call and at a question.
    """
    out = anyio.Event()

    async def hang(effect: Charge) -> str:
        out.set()
        await anyio.sleep_forever()
        return "never"

    @computation
    async def one(*, ask: bool) -> Effectful[str]:
        yield Return((yield Approval() if ask else Charge(1)))

    for ask in (False, True):
        async with open_session(one(ask=ask), Charge.handled_by(hang)) as session:
            if ask:
                await session.outcome()
            else:
                await out.wait()
            log = cancelled(await session.cancel("enough")).log
        entry = log.entries[0]
        assert entry.state == "discarded"
        assert entry.error is not UNSET
        assert entry.error.kind == "run-cancel"


async def test_the_header_binds_the_run() -> None:
    """6.1 The header binds format version, run id, seed, computation name and version, canonical arguments."""
    log = suspended(await start(order(5), *World().handlers, id="run-1", seed="seed-1")).log

    header = log.header
    assert header.format == FORMAT == 0
    assert (header.run, header.seed) == ("run-1", "seed-1")
    assert (header.computation, header.version) == ("order", "7")
    assert bytes(header.arguments) == b'{"note":"none","number":5}'


async def test_a_run_without_an_id_gets_one_of_its_own() -> None:
    """6.1 Run id and seed are random where none is given."""
    logs = [suspended(await start(order(5), *World().handlers)).log for _ in range(2)]

    assert logs[0].header.run != logs[1].header.run
    assert logs[0].header.seed != logs[1].header.seed


async def test_the_header_says_how_the_run_stands() -> None:
    """6.1 The header binds status (running, suspended, completed, failed, cancelled), cause and result."""
    world = World()
    live = Log()
    seen: list[Status] = []
    open_log = suspended(
        await start(order(5), *world.handlers, into=live, observe=[lambda _: seen.append(live.header.status)])
    ).log
    good = completed(await resume(order(5), open_log, *world.handlers, answer="yes")).log
    bad = failed(await resume(order(5), open_log, *world.handlers, answer="no")).log
    async with open_session(order(5), *world.handlers, log=open_log) as session:
        await session.outcome()
        gone = cancelled(await session.cancel("not wanted")).log

    assert seen[0] == "running"
    assert [log.header.status for log in (open_log, good, bad, gone)] == [
        "suspended",
        "completed",
        "failed",
        "cancelled",
    ]
    assert good.header.result is not UNSET
    assert bytes(good.header.result) == b'"receipt 5, none"'
    assert bad.header.cause == bad.entries[-1].id == "0/3"
    assert bad.header.error is not UNSET
    assert bad.header.error.type == "builtins:ValueError"
    assert gone.header.cancelled is not UNSET
    assert (gone.header.cancelled.at, gone.header.cancelled.reason) == ("0/2", "not wanted")


@pytest.mark.parametrize("body_error", [True, False])
async def test_the_cause_is_the_entry_that_failed_the_run(*, body_error: bool) -> None:
    """6.1 The header's cause is the entry whose error failed the run; the body's own error has none."""

    @computation
    async def fails() -> Effectful[str]:
        yield total.put(1)
        try:
            yield Shop.charge(1)
        except TimeoutError as error:
            yield total.put(2)
            if body_error:
                yield Return("went on")
            raise RuntimeError("wrapped") from error
        raise LookupError("the body's own")

    world = World(None if body_error else TimeoutError("slow"))
    log = failed(await start(fails(), total.handler(0), *world.handlers)).log

    assert log.header.cause == (None if body_error else "0/2")
