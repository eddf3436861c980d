"""DESIGN 6.7: rerun, the verb for failed runs."""

import pytest

from skuld_async import Effectful, Log, RerunRefusedError, Return, computation, rerun, start

from .shop import (
    Approval,
    Charge,
    Declined,
    Notify,
    OutOfStock,
    Shop,
    World,
    completed,
    failed,
    ids,
    left,
    states,
    stored,
    suspended,
    total,
)


@computation(name="job")
async def job() -> Effectful[str]:
    yield Notify("start")
    receipt = yield Shop.pay(1)
    yield Notify("end")
    yield Return(receipt)


async def test_a_timeout_is_attempted_again_under_its_own_key() -> None:
    """6.7 `rerun` cuts at the cause and runs that effect again, under its own key.

    A recorded timeout may have charged.
    """
    world = World(None, TimeoutError("slow"))
    log = failed(await start(job(), *world.handlers, id="r")).log
    stood = log.to_json()
    outcome = completed(await rerun(job(), log, *world.handlers))

    assert outcome.value == "paid 1"
    assert world.keys == ["r/0/1", "r/0/2", "r/0/2", "r/0/3~1"]
    assert ids(outcome.log) == ["0/1", "0/2", "0/3~1"]
    assert states(outcome.log) == ["executed"] * 3
    assert log.to_json() == stood


async def test_a_declared_error_is_asked_again_under_a_new_key() -> None:
    """6.7 Or under a new ``~n`` where the recorded error is declared by the operation (``raises=``).

    The receiver has answered.
    """
    world = World(None, Declined("no funds"))
    log = failed(await start(job(), *world.handlers, id="r")).log
    outcome = completed(await rerun(job(), stored(log), *world.handlers))

    assert outcome.value == "paid 1"
    assert world.keys == ["r/0/1", "r/0/2", "r/0/2~1", "r/0/3~1"]


class DeclinedByCard(Declined):
    """Derives from what the operation declares."""


async def test_whatever_is_declared_is_asked_again_under_a_new_key() -> None:
    """6.7 The receiver has answered by an error that derives from a declared one, and by one that JSON cannot hold."""
    for error in (DeclinedByCard("no funds"), Declined(object())):
        world = World(None, error)
        log = failed(await start(job(), *world.handlers, id="r")).log
        completed(await rerun(job(), stored(log), *world.handlers))

        assert world.keys == ["r/0/1", "r/0/2", "r/0/2~1", "r/0/3~1"]


async def test_a_domain_error_that_the_operation_does_not_declare_keeps_the_key() -> None:
    """6.7 Only ``raises=`` says that the receiver has answered.

    Any other error, a DomainError too, may have charged.
    """
    world = World(None, OutOfStock("book"))
    log = failed(await start(job(), *world.handlers, id="r")).log
    completed(await rerun(job(), stored(log), *world.handlers))

    assert world.keys == ["r/0/1", "r/0/2", "r/0/2", "r/0/3~1"]


async def test_a_second_failure_is_run_again_in_the_same_way() -> None:
    """6.7 A rerun that fails again is a failed run like any other; two attempts at one call share their key."""
    world = World(None, TimeoutError("slow"), TimeoutError("still slow"))
    log = failed(await start(job(), *world.handlers, id="r")).log
    log = failed(await rerun(job(), stored(log), *world.handlers)).log
    outcome = completed(await rerun(job(), stored(log), *world.handlers))

    assert outcome.value == "paid 1"
    assert world.keys == ["r/0/1", "r/0/2", "r/0/2", "r/0/2", "r/0/3~2"]


@computation(name="late")
async def fails_late() -> Effectful[str]:
    try:
        receipt = yield Shop.pay(1)
    except TimeoutError as error:
        yield total.put(1)
        yield Charge(1)
        raise RuntimeError("gave up") from error
    yield Return(receipt)


async def test_a_run_that_went_on_outside_after_its_cause_is_refused_unless_told() -> None:
    """6.7 Refused (unless told) when external effects ran after the cause."""
    world = World(TimeoutError("slow"))
    log = failed(await start(fails_late(), *world.handlers, total.handler(0), id="r")).log
    stood = log.to_json()

    with pytest.raises(RerunRefusedError, match="it went on after 0/1 failed") as caught:
        await rerun(fails_late(), log, *world.handlers, total.handler(0))
    assert left(caught.value).to_json() == log.to_json() == stood
    assert "force=True" in str(caught.value)
    assert len(world.calls) == 2

    outcome = completed(await rerun(fails_late(), log, *world.handlers, total.handler(0), force=True))
    assert outcome.value == "paid 1"
    assert [entry.id for entry in outcome.log.dropped] == ["0/2", "0/3"]
    assert world.keys == ["r/0/1", "r/0/3", "r/0/1"]


async def test_local_effects_after_the_cause_do_not_stand_in_the_way() -> None:
    """6.7 What ran after the cause without leaving the process is simply run again."""

    @computation
    async def notes_the_failure() -> Effectful[int]:
        try:
            yield Shop.pay(1)
        except TimeoutError:
            yield total.put(1)
            raise
        yield Return((yield total.get()))

    world = World(TimeoutError("slow"))
    log = failed(await start(notes_the_failure(), *world.handlers, total.handler(0))).log

    assert completed(await rerun(notes_the_failure(), stored(log), *world.handlers, total.handler(0))).value == 0


async def test_the_bodys_own_bug_is_fixed_and_what_was_performed_stands() -> None:
    """6.7 A body that raised by itself goes on behind its last effect, once it is fixed: nothing is performed again."""

    @computation(name="buggy")
    async def buggy() -> Effectful[int]:
        receipt = yield Charge(1)
        yield Return(int(receipt))

    @computation(name="buggy")
    async def fixed() -> Effectful[int]:
        receipt = yield Charge(1)
        yield Notify("fixed")
        yield Return(int(receipt.split()[1]))

    world = World()
    log = failed(await start(buggy(), *world.handlers, id="r")).log
    assert log.header.cause is None
    outcome = completed(await rerun(fixed(), stored(log), *world.handlers))

    assert outcome.value == 1
    assert world.calls == ["charge 1", "notify fixed"]
    assert len(set(world.keys)) == 2


@pytest.mark.parametrize("status", ["running", "suspended", "completed", "cancelled"])
async def test_only_failed_runs_are_run_again(status: str) -> None:
    """6.7 `rerun` is for failed runs; for others it is refused, and says what to use."""

    @computation
    async def asks() -> Effectful[str]:
        yield Return((yield Approval()))

    log = suspended(await start(asks())).log
    text = log.to_json().replace(b'"suspended"', b'"%s"' % status.encode())

    with pytest.raises(RerunRefusedError, match=f"it is {status}, not failed") as caught:
        await rerun(asks(), Log.from_json(text))
    assert "resume(comp, log, *handlers)" in str(caught.value)


@pytest.mark.parametrize("nested_fails", [True, False])
async def test_what_a_failed_handler_had_asked_for_stands(*, nested_fails: bool) -> None:
    """6.7 Calls that the failed effect's handler made are part of it: settled ones stand, a failed one runs again."""

    async def notify(effect: Notify) -> None:
        await Charge(1)
        await Shop.charge(2)
        world.called("notify")

    @computation
    async def notifies() -> Effectful[str]:
        yield Notify()
        yield Return("done")

    world = World(None, TimeoutError("slow")) if nested_fails else World(None, None, TimeoutError("slow"))
    handlers = [*world.handlers, Notify.handled_by(notify)]
    log = failed(await start(notifies(), *handlers, id="r")).log
    assert ids(log) == ["0/1", "0/1/1", "0/1/2"]
    outcome = completed(await rerun(notifies(), stored(log), *handlers))

    assert world.keys == ["r/0/1/1", "r/0/1/2", *(["r/0/1/2"] if nested_fails else ["r/0/1"]), "r/0/1"]
    assert ids(outcome.log) == ["0/1", "0/1/1", "0/1/2"]
    assert states(outcome.log) == ["executed"] * 3


async def test_a_declared_error_of_a_handler_takes_its_calls_along() -> None:
    """6.7 A declared error asks anew, under new keys: what its handler had asked for before is dropped with it."""

    class Seller:
        async def charge(self, amount: int) -> str:
            return "never"

        async def pay(self, amount: int) -> str:
            await Charge(amount)
            if len(world.calls) == 1:
                raise Declined("no funds")
            return "paid"

        async def reserve(self, item: str, count: int = 1) -> int:
            return count

    @computation
    async def pays() -> Effectful[str]:
        yield Return((yield Shop.pay(1)))

    world = World()
    handlers = [Shop.handler(Seller()), Charge.handled_by(world.charged)]
    log = failed(await start(pays(), *handlers, id="r")).log
    outcome = completed(await rerun(pays(), stored(log), *handlers))

    assert world.keys == ["r/0/1/1", "r/0/1~1/1~1"]
    assert ids(outcome.log) == ["0/1~1", "0/1~1/1~1"]
    assert [entry.id for entry in outcome.log.dropped] == ["0/1", "0/1/1"]


class Billed(Charge, frozen=True):
    """External, with a stable name of its own."""

    __sig__ = "billing.charge"


async def test_external_effects_are_known_whatever_their_name() -> None:
    """6.7 Refused when external effects ran after the cause, whatever ``sig=`` they have."""

    @computation
    async def fails_late_too() -> Effectful[str]:
        try:
            receipt = yield Shop.pay(1)
        except TimeoutError:
            yield Billed(1)
            raise
        yield Return(receipt)

    world = World(TimeoutError("slow"))
    log = failed(await start(fails_late_too(), *world.handlers)).log

    with pytest.raises(RerunRefusedError, match="it went on after 0/1 failed"):
        await rerun(fails_late_too(), log, *world.handlers)


async def test_what_was_performed_without_a_result_is_run_again_only_when_told() -> None:
    """6.7, 6.11 A call that was made and whose result could not be kept is not made again, unless told."""

    class Liar(World):
        async def pay(self, amount: int) -> str:
            await super().pay(amount)
            return 3  # type: ignore[return-value]  # pyright: ignore[reportReturnType]

    world = Liar()
    log = failed(await start(job(), *world.handlers)).log
    with pytest.raises(RerunRefusedError, match="was performed, and its result could not be kept"):
        await rerun(job(), stored(log), *world.handlers)
    assert world.calls == ["notify start", "pay 1"]

    failed(await rerun(job(), stored(log), *world.handlers, force=True))
    assert world.calls == ["notify start", "pay 1", "pay 1"]
