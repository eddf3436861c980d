"""What handlers did on their own account, and scopes inside scopes, come out of a log as they went in."""

import asyncio
from typing import Any

import anyio
import pytest

from skuld_async import (
    Completed,
    DivergenceError,
    Effect,
    EffectError,
    Effectful,
    EventAccumulator,
    Failed,
    Handler,
    Log,
    Outcome,
    Return,
    State,
    Suspended,
    UnencodableError,
    Yield,
    bracket,
    computation,
    mark_loop,
    open_session,
    replay,
    rerun,
    resume,
    start,
)
from skuld_async.testing import always_cold

counter = State("nested.counter", int)
name = State("nested.name", str)
seen = EventAccumulator("nested.seen", int)


class Work(Effect[int], frozen=True):
    pass


class Other(Effect[int], frozen=True):
    pass


class Ask(Yield[str], frozen=True):
    pass


def value_of(outcome: Outcome[Any]) -> Any:
    assert isinstance(outcome, Completed), outcome
    return outcome.value


def stored(outcome: Outcome[Any]) -> Log:
    return Log.from_json(outcome.log.to_json())


@computation
async def works_and_reads() -> Effectful[int]:
    yield Work()
    yield Ask()
    count = yield counter.get()
    yield Return(count)


@computation
async def puts(value: int) -> Effectful[int]:
    yield counter.put(value)
    yield Return(1)


async def in_a_scope_of_its_own(_effect: Work) -> int:
    return await puts(77).handle(counter.handler(0))


async def after_a_failure(_effect: Work) -> int:
    try:
        await counter.modify(lambda _: 1 // 0)
    except ZeroDivisionError:
        await counter.put(5)
    return 1


@pytest.mark.parametrize(("handler", "count"), [(in_a_scope_of_its_own, 3), (after_a_failure, 5)])
async def test_a_handlers_own_state_is_its_own(handler: Any, count: int) -> None:
    """5.9, 6.3 What a handler did to local state is done again in the scope where it was, and only what was done."""
    scope = [counter.handler(3), Work.handled_by(handler)]
    first = await start(works_and_reads(), *scope)

    assert value_of(await resume(works_and_reads(), stored(first), *scope, answer="go")) == count


@computation
async def counts_to_three() -> Effectful[int]:
    turn = 0
    while turn < 3:
        turn = yield mark_loop("turns", int, carry=turn)
        yield seen.emit(turn)
        turn += 1
    yield Return(turn)


async def test_a_loop_in_a_handler_keeps_what_it_pruned() -> None:
    """5.9, 6.10 The state that a handler's loop had at its last mark is there again after a cold resume."""

    async def work(_effect: Work) -> int:
        return await counts_to_three()

    scope = [counter.handler(0), seen.handler(), Work.handled_by(work)]
    first = await start(works_and_reads(), *scope)
    again = await resume(works_and_reads(), stored(first), *scope, answer="go")

    assert first.output(seen) == again.output(seen) == [0, 1, 2]


@computation
async def marks_and_asks() -> Effectful[int]:
    turn = 0
    while True:
        turn = yield mark_loop("turns", int, carry=turn)
        count = yield counter.modify(lambda value: value + 1)
        if turn == 2:
            yield Ask()
            yield Return(count)
            return
        turn += 1


async def test_scopes_around_one_computation_have_cells_of_their_own() -> None:
    """5.10, 6.10 Two scopes with the same key around one computation are told apart by a mark."""
    comp = marks_and_asks().handle(counter.handler(1)).handle(counter.handler(100))
    first = await start(comp)

    assert value_of(await resume(comp, stored(first), answer="go")) == 4


@computation(name="nested.order")
async def one_way() -> Effectful[int]:
    yield Work()
    yield Other()
    yield Ask()
    count = yield counter.get()
    yield Return(count)


@computation(name="nested.order")
async def the_other_way() -> Effectful[int]:
    yield Other()
    yield Work()
    yield Ask()
    count = yield counter.get()
    yield Return(count)


async def test_a_dropped_call_comes_back_with_what_its_handler_did() -> None:
    """6.5, 5.9 An executed effect that is taken back from the dropped ones brings its handler's own entries along."""

    async def work(_effect: Work) -> int:
        return await puts(42)

    scope = [counter.handler(0), Work.handled_by(work), Other.always(2)]
    first = await start(one_way(), *scope)
    again = await resume(the_other_way(), stored(first), *scope, answer="go", allow_divergence=True)

    assert value_of(again) == 42
    assert again.log.dropped == []


async def test_cancelling_a_stored_run_replays_it_first() -> None:
    """7.7 A run that is cancelled from its log, before anybody asked for its outcome, releases what it holds."""
    released: list[str] = []

    @computation
    async def holds() -> Effectful[str]:
        answer = yield bracket(Work(), lambda _: asks(), lambda _: Other())
        yield Return(answer)

    @computation
    async def asks() -> Effectful[str]:
        answer = yield Ask()
        yield Return(answer)

    def release(_effect: Other) -> int:
        released.append("released")
        return 1

    scope: list[Handler] = [Work.always(1), Other.handled_by(release)]
    first = await start(holds(), *scope)
    async with open_session(holds(), *scope, log=stored(first)) as session:
        cancelled = await session.cancel("enough")

    assert released == ["released"]
    assert type(await replay(holds(), stored(cancelled), *scope)).__name__ == "Cancelled"
    assert released == ["released"]


async def test_a_run_that_was_cancelled_comes_to_no_other_end() -> None:
    """6.4, 7.7 A changed computation that returns where the log was cancelled diverges."""

    @computation(name="nested.cut")
    async def waits() -> Effectful[int]:
        yield Work()
        await anyio.sleep_forever()
        yield Return(1)

    @computation(name="nested.cut")
    async def returns() -> Effectful[int]:
        yield Work()
        yield Return(1)

    async with open_session(waits(), Work.always(1)) as session:
        await anyio.wait_all_tasks_blocked()
        cancelled = await session.cancel()

    with pytest.raises(DivergenceError, match="the log says that it was cancelled"):
        await replay(returns(), stored(cancelled), Work.always(1))


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_cancellation_astray_is_an_error_of_the_call(anyio_backend: str) -> None:
    """6.8 What a call waited for was cancelled, and by no scope of the body: that is an error of the call."""
    assert anyio_backend == "asyncio"

    async def work(_effect: Work) -> int:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future
        return 1

    @computation
    async def works() -> Effectful[int]:
        value = yield Work()
        yield Return(value)

    first = await start(works(), Work.handled_by(work))
    assert isinstance(first, Failed)
    assert isinstance(first.error, EffectError)
    assert value_of(await rerun(works(), stored(first), Work.always(4))) == 4


async def test_a_rerun_makes_the_call_again_that_a_deadline_cut_off() -> None:
    """6.7 A run that failed because a deadline of its body fired is run again from the call that was cut off."""

    @computation
    async def in_time() -> Effectful[int]:
        with anyio.fail_after(0.01):
            value = yield Work()
        yield Return(value)

    async def slow(_effect: Work) -> int:
        await anyio.sleep_forever()
        return 1

    first = await start(in_time(), Work.handled_by(slow))
    assert isinstance(first, Failed)
    assert value_of(await rerun(in_time(), stored(first), Work.always(4))) == 4


class Price(Yield[str], frozen=True):
    amount: int


async def decide(question: Price) -> str:
    return "auto" if question.amount < 100 else f"asked: {await question}"


@computation
async def three_prices() -> Effectful[list[str]]:
    yield Return([(yield Price(1)), (yield Price(500)), (yield Price(2))])


async def test_a_handler_of_a_question_may_ask_it_after_all() -> None:
    """5.9, 7.1 What a handler requests of its own effect goes outwards: a question that it does not decide is asked."""
    comp = three_prices().handle(Price.handled_by(decide))

    waiting = await start(comp)
    assert isinstance(waiting, Suspended)
    assert waiting.question == Price(500)
    done = await resume(comp, stored(waiting), answer="yes")

    assert value_of(done) == ["auto", "asked: yes", "auto"]
    assert [(entry.id, bytes(entry.value)) for entry in done.log.entries] == [
        ("0/1", b'"auto"'),
        ("0/2", b'"asked: yes"'),
        ("0/2/1", b'"yes"'),
        ("0/3", b'"auto"'),
    ]
    assert value_of(await replay(comp, stored(done))) == value_of(done)
    assert value_of(await always_cold(comp, answer=lambda _: "yes")) == value_of(done)


async def add_one(_effect: Work) -> int:
    return 1 + await Work()


async def test_handlers_of_one_effect_around_one_another_replay() -> None:
    """5.9 Each request of the chain has its entry under the one before; a replay answers the outermost from the log."""
    comp = works_and_reads().handle(Work.handled_by(add_one)).handle(Work.handled_by(add_one), counter.handler(5))

    first = await start(comp, Work.always(1))
    done = await resume(comp, stored(first), Work.always(100), answer="yes")

    assert [(entry.id, bytes(entry.value)) for entry in done.log.entries if entry.sig == Work.__sig__] == [
        ("0/1", b"3"),
        ("0/1/1", b"2"),
        ("0/1/1/1", b"1"),
    ]


async def test_what_cannot_be_encoded_is_refused_the_first_time_too() -> None:
    """6.11 A lone surrogate is refused at that effect, whatever the body catches."""

    @computation
    async def named() -> Effectful[None]:
        yield name.put("a")
        try:
            yield name.put("\ud800")
        except Exception:  # noqa: BLE001, S110 - a body that is robust
            pass

    with pytest.raises(UnencodableError, match="surrogates not allowed"):
        await start(named(), name.handler(""))
