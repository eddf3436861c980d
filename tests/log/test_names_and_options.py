"""DESIGN 6.13: stable names, and the options that all verbs share."""

from typing import Any, ClassVar, Protocol

import anyio
import pytest

from skuld_async import (
    Clock,
    Completed,
    DivergenceError,
    Effect,
    Effectful,
    EventAccumulator,
    Fresh,
    Log,
    Observation,
    Perform,
    Port,
    Reader,
    Request,
    Return,
    State,
    UnencodableError,
    computation,
    mark_loop,
    operation,
    port,
    replay,
    resume,
    start,
)

from .shop import (
    Approval,
    Charge,
    Comment,
    Notify,
    World,
    cart,
    completed,
    events,
    limit,
    names,
    stored,
    suspended,
    total,
)


class Moved(Effect[str], frozen=True):
    """Was `Charge`."""

    __aliases__: ClassVar[tuple[str, ...]] = ("tests.log.shop:Charge",)
    amount: int


class Named(Effect[str], frozen=True):
    __sig__ = "billing.charge"


class Billing(Port, Protocol):
    @operation(sig="billing.pay")
    async def pay(self, amount: int) -> str: ...

    @operation
    async def refund(self, amount: int) -> str: ...


@port
async def quote(item: str) -> int:
    return len(item)


@port(sig="billing.estimate")
async def estimate(item: str) -> int:
    return len(item)


@computation
async def plainly_named() -> Effectful[None]:
    yield Return(None)


async def test_sigs_are_module_and_qualname_unless_given() -> None:
    """6.13 Stable names: sig is `module:qualname` unless `sig=`; keys are named after their key."""

    @computation
    async def asks() -> Effectful[None]:
        for effect in (Charge(1), Named(), Billing.pay(1), Billing.refund(1), quote("x"), estimate("x"), total.get()):
            yield effect
        yield Return(None)

    class Bank:
        async def pay(self, amount: int) -> str:
            return "paid"

        async def refund(self, amount: int) -> str:
            return "back"

    handlers = [Charge.always("a"), Named.always("b"), Billing.handler(Bank()), quote.default(), estimate.default()]
    log = completed(await start(asks(), *handlers, total.handler(0))).log

    assert [entry.sig for entry in log.entries] == [
        "tests.log.shop:Charge",
        "billing.charge",
        "billing.pay",
        f"{__name__}:Billing.refund",
        f"{__name__}:quote",
        "billing.estimate",
        "State[total].get",
    ]


async def test_computations_are_named_by_module_and_qualname_unless_given() -> None:
    """6.13 ``@computation(name=, version=)``; by default the name is `module:qualname`."""
    named = computation(name="other", version="2")(plainly_named.__wrapped__)

    one = (await start(plainly_named())).log.header
    two = (await start(named())).log.header

    assert (one.computation, one.version) == (f"{__name__}:plainly_named", None)
    assert (two.computation, two.version) == ("other", "2")


async def test_an_alias_reads_what_the_old_name_wrote() -> None:
    """6.13 ``aliases=``: an effect that was renamed still matches what its old name wrote.

    Without the alias it does not.
    """

    @computation(name="job")
    async def before() -> Effectful[str]:
        receipt = yield Charge(1)
        yield Approval()
        yield Return(receipt)

    @computation(name="job")
    async def after() -> Effectful[str]:
        receipt = yield Moved(1)
        yield Approval()
        yield Return(receipt)

    @computation(name="job")
    async def without() -> Effectful[str]:
        yield Named()
        yield Return("never")

    log = stored(suspended(await start(before(), *World().handlers)).log)
    outcome = completed(await resume(after(), log, Moved.always("new"), answer="yes"))

    assert outcome.value == "receipt 1"
    with pytest.raises(DivergenceError):
        await resume(without(), log, Named.always("new"))


@pytest.mark.parametrize(
    ("families", "logged"),
    [
        (None, ["State[total].put", "EventAccumulator[e].emit", "Reader[limit].ask", "Clock.now"]),
        ([], []),
        ([State], ["State[total].put"]),
        ([Clock, Reader], ["Reader[limit].ask", "Clock.now"]),
    ],
    ids=["all", "none", "state", "recorded"],
)
async def test_effects_names_the_families_that_are_logged(families: list[Any] | None, logged: list[str]) -> None:
    """6.13 ``effects=`` (local and recorded families only): external, derived and control effects are always logged."""
    mine = EventAccumulator("e", int)

    @computation
    async def all_kinds() -> Effectful[str]:
        yield total.put(1)
        yield mine.emit(1)
        yield limit.ask()
        yield Clock.now()
        yield Charge(1)
        yield Fresh.uuid()
        yield mark_loop("turn")
        yield Approval()
        yield Return(str((yield total.get())))

    handlers = [*World().handlers, total.handler(0), mine.handler(), limit.handler(1)]
    options: Any = {} if families is None else {"effects": families}
    log = suspended(await start(all_kinds(), *handlers, **options)).log

    assert names(log) == [*logged, "Charge", "Fresh.uuid", "mark_loop", "Approval"]
    outcome = completed(await resume(all_kinds(), stored(log), *handlers, answer="yes", **options))
    assert (outcome.value, outcome.output(mine)) == ("1", [1])


async def test_observers_see_replays_and_interceptors_do_not() -> None:
    """5.11, 6.13 Interceptors stand between log and handler (live calls only).

    `observe=` stands outside and sees replays too.
    """
    live: list[str] = []
    seen: list[tuple[str, bool]] = []

    async def intercept(request: Request, perform: Perform) -> Any:
        live.append(request.id)
        return await perform(request)

    def observe(observation: Observation) -> None:
        seen.append((observation.request.id, observation.replayed))

    @computation
    async def asks() -> Effectful[str]:
        yield Charge(1)
        yield limit.ask()
        yield Approval()
        yield Return((yield Charge(2)))

    world = World()
    handlers = [*world.handlers, limit.handler(1)]
    log = suspended(await start(asks(), *handlers, intercept=[intercept], observe=[observe])).log
    assert live == ["0/1", "0/2"]
    assert seen == [("0/1", False), ("0/2", False)]

    live.clear()
    seen.clear()
    await resume(asks(), stored(log), *handlers, answer="yes", intercept=[intercept], observe=[observe])
    assert live == ["0/4"]
    assert seen == [("0/1", True), ("0/2", True), ("0/3", False), ("0/4", False)]
    assert world.calls == ["charge 1", "charge 2"]


async def test_observers_are_not_told_of_what_a_suspension_leaves_open() -> None:
    """5.11 Told once for each settled request: neither a question that waits nor a call that a host cut short is."""
    seen: list[tuple[str, object]] = []

    def observe(observation: Observation) -> None:
        seen.append((observation.request.id, observation.answer))

    async def hangs(_effect: Charge) -> str:
        host.cancel()
        await anyio.sleep_forever()
        raise AssertionError

    @computation
    async def asks() -> Effectful[str]:
        receipt = yield Charge(1)
        answer = yield Approval()
        yield Return(f"{receipt} {answer}")

    log = Log()
    with anyio.CancelScope() as host:
        await start(asks(), Charge.handled_by(hangs), observe=[observe], into=log)
    assert (log.entries[0].state, seen) == ("started", [])

    world = World()
    waiting = suspended(await resume(asks(), stored(log), *world.handlers, observe=[observe]))
    assert seen == [("0/1", "receipt 1")]
    seen.clear()
    completed(await resume(asks(), waiting.log, *world.handlers, answer="yes", observe=[observe]))
    assert seen == [("0/1", "receipt 1"), ("0/2", "yes")]


async def test_what_an_interceptor_makes_of_an_answer_is_logged() -> None:
    """5.11 Interceptors stand between log and handler.

    The log holds what they answered, and a replay asks none of them.
    """

    async def double(request: Request, perform: Perform) -> Any:
        answer = await perform(request)
        return f"{answer} twice" if isinstance(answer, str) else answer

    @computation
    async def asks() -> Effectful[str]:
        receipt = yield Charge(1)
        yield Approval()
        yield Return(receipt)

    world = World()
    log = suspended(await start(asks(), *world.handlers, intercept=[double])).log
    outcome = completed(await resume(asks(), stored(log), *world.handlers, answer="yes"))

    assert outcome.value == "receipt 1 twice"
    assert world.calls == ["charge 1"]


async def test_output_and_state_are_read_from_any_outcome() -> None:
    """6.13 ``output``: events and state of the outermost scope, from any outcome; what is not there is a KeyError."""

    @computation
    async def fills() -> Effectful[None]:
        yield cart.put(["book"])
        yield Comment()
        yield Return(None)

    outcome = suspended(await start(fills(), cart.handler([]), events.handler()))

    assert outcome.state(cart) == ["book"]
    assert outcome.output(events) == []
    with pytest.raises(KeyError, match=r"State\[total\] has no handler in the outermost scope"):
        outcome.state(total)


async def test_a_user_sees_each_live_call_once() -> None:
    """5.11 Over a whole run with cold resumes, interceptors see each external call exactly once."""
    live: list[str] = []

    async def intercept(request: Request, perform: Perform) -> Any:
        live.append(request.id)
        return await perform(request)

    @computation
    async def loops() -> Effectful[None]:
        turn = 0
        while turn < 4:
            turn = (yield mark_loop("turn", int, carry=turn)) + 1
            yield Notify(str(turn))
            yield Comment()
        yield Return(None)

    world = World()
    outcome = await start(loops(), *world.handlers, intercept=[intercept])
    while not isinstance(outcome, Completed):
        outcome = await resume(loops(), stored(outcome.log), *world.handlers, answer="on", intercept=[intercept])

    assert live == [f"0/turn@0#{turn}/1" for turn in range(1, 5)]


@port(sig="billing.charge")
async def bill(cents: int) -> str:
    """A port under its first name."""
    return f"paid {cents}"


@port(sig="payments.charge", aliases=("billing.charge",))
async def charge(cents: int) -> str:
    """The same, moved."""
    return f"paid {cents} again"


async def test_a_port_that_was_renamed_reads_old_logs_by_its_aliases() -> None:
    """6.13 Stable names: a port finds the entries that were logged under its `aliases`."""

    @computation(name="billing")
    async def before() -> str:
        return await bill(5)

    @computation(name="billing")
    async def after() -> str:
        return await charge(5)

    log = (await start(before(), bill.default())).log

    assert (await replay(after(), log, charge.default())).value == "paid 5"


async def test_an_id_that_no_log_can_hold_is_refused_at_the_start() -> None:
    """6.11 A lone surrogate in the id or the seed of a run is refused before anything is performed."""
    for options in ({"id": "\ud800"}, {"seed": "\ud800"}):
        with pytest.raises(UnencodableError, match="of the run cannot be logged"):
            await start(plainly_named(), **options)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
