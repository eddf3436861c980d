"""Channel under a log: every value is received once, by the same strand on every replay, wherever the log was cut."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import anyio
import pytest
from msgspec import Struct

from skuld_async import (
    AtomicState,
    Channel,
    ChannelClosedError,
    Clock,
    Computation,
    DeadlockError,
    Effect,
    Effectful,
    Log,
    Parallel,
    Return,
    Suspended,
    TaskCancelledError,
    TimedOut,
    Transaction,
    UndecodableError,
    UnencodableError,
    UnhandledEffectError,
    bracket,
    cancel,
    computation,
    fork,
    join,
    mark_loop,
    open_session,
    replay,
    resume,
    start,
    transact,
    with_timeout,
)
from skuld_async.testing import VirtualClock, always_cold

from .parts import (
    Ask,
    Call,
    Desk,
    Release,
    again,
    calls,
    cancelled,
    comes_to_the_same,
    completed,
    crash_anywhere,
    failed,
    host_cancelled,
    states,
    stored,
    suspended,
    waits_by_name,
)

line = Channel("strands.line", str)
queue = Channel("strands.queue", str, capacity=2)
lists = Channel("strands.lists", list[str], capacity=1)
handlers = [line.handler(), queue.handler(), lists.handler()]
CLOSED = "other: ChannelClosedError"


@computation
async def sends(channel: Channel[str], *values: str) -> Effectful[None]:
    """Makes each value by a call, sends it, and closes behind the last one."""
    for value in values:
        made = yield Call(value)
        yield channel.send(made)
    yield channel.close()


@computation
async def receives(channel: Channel[str]) -> Effectful[list[str]]:
    """All that is sent, with a call for each value."""
    got: list[str] = []
    try:
        while True:
            value = yield channel.receive()
            got.append(value)
            yield Call(f"use {value}")
    except ChannelClosedError:
        yield Return(got)


@computation
async def asking(effect: Effect[Any]) -> Effectful[Any]:
    """The answer, or what the error says."""
    try:
        said = yield effect
    except ChannelClosedError as error:
        said = str(error)
    yield Return(said)


def of(log: Log, sig: str) -> list[tuple[str, str, str]]:
    """Id, state and value of each entry with such a sig."""
    return [(one.id, one.state, bytes(one.value).decode()) for one in log.entries if one.sig == sig]


# -- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0, 1, 2, 7])
async def test_values_arrive_in_the_order_in_which_they_were_sent(capacity: int) -> None:
    """First in is first out, now, on every replay, and wherever the run dies."""
    channel = Channel("strands.fifo", str, capacity=capacity)
    comp = Parallel.all(sends(channel, *"abcd"), receives(channel))
    outcome = completed(await crash_anywhere(comp, Desk(), channel.handler()))
    assert outcome.value == (None, ["A", "B", "C", "D"])
    await comes_to_the_same(comp, outcome, channel.handler())


@computation
async def market(channel: Channel[str]) -> Effectful[list[str]]:
    """Three senders, three receivers; all that was received, sorted."""

    @computation
    async def sends_three(name: str) -> Effectful[None]:
        for place in range(3):
            made = yield Call(f"{name}{place}")
            yield channel.send(made)

    @computation
    async def sends_all() -> Effectful[None]:
        yield Parallel.map(sends_three, ["a", "b", "c"])
        yield channel.close()

    _, *got = yield Parallel.all(sends_all(), receives(channel), receives(channel), receives(channel))
    yield Return(sorted(value for one in got for value in one))


@pytest.mark.parametrize("channel", [line, queue])
async def test_each_value_is_received_once(channel: Channel[str]) -> None:
    """Of several senders and receivers, each value is received exactly once, wherever the run dies."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield Return((yield market(channel)))

    outcome = completed(await crash_anywhere(body(), Desk(), *handlers))
    assert outcome.value == sorted(f"{name}{place}" for name in "ABC" for place in range(3))
    await comes_to_the_same(body(), outcome, *handlers)


async def test_a_replay_gives_each_strand_the_same_values() -> None:
    """Who has received what is in the log: it does not matter who would be faster by now."""

    @computation
    async def takes(name: str) -> Effectful[list[str]]:
        got: list[str] = []
        for round_ in range(2):
            yield Call(f"{name}{round_}")
            got.append((yield line.receive()))
        yield Return(got)

    comp = Parallel.all(takes("x"), takes("y"), sends(line, "1", "2", "3", "4"))
    desk = Desk("x0", "x1", "y0", "y1")
    async with open_session(comp, *desk.handlers, *handlers) as session:
        for name in ("y0", "x0", "x1", "y1"):
            await desk.at(name).wait()
            desk.let(name)
            await anyio.wait_all_tasks_blocked()
        outcome = completed(await session.outcome())
    assert outcome.value == (["2", "3"], ["1", "4"], None)
    for verb in (replay, resume):
        same = completed(await verb(comp, stored(outcome.log), *Desk().handlers, *handlers))
        assert same.value == outcome.value
    await comes_to_the_same(comp, outcome, *handlers)


async def test_what_nobody_has_received_is_still_there() -> None:
    """What is in a channel when the run suspends is in it after any number of resumes, in order."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield queue.send("a")
        yield queue.send("b")
        yield Ask("first")
        got = [(yield queue.receive())]
        yield Ask("second")
        yield queue.send("c")
        yield queue.close()
        yield Return([*got, *(yield receives(queue))])

    outcome: Any = await start(body(), *Desk().handlers, *handlers)
    while isinstance(outcome, Suspended):
        outcome = await again(body(), outcome.log, *Desk().handlers, *handlers, answer="go")
    assert completed(outcome).value == ["a", "b", "c"]
    await comes_to_the_same(body(), outcome, *handlers)


async def test_a_sender_that_waits_goes_on_waiting_after_a_resume() -> None:
    """A send that has not found its receiver when the run suspends is started; the resume hands its value over."""

    @computation
    async def receiver() -> Effectful[str]:
        yield Ask("ready")
        yield Return((yield line.receive()))

    comp = Parallel.all(sends(line, "a"), receiver())
    outcome = suspended(await start(comp, *Desk().handlers, *handlers))
    assert [state for _, state, _ in of(outcome.log, "Channel[strands.line].send")] == ["started"]
    ended = completed(await again(comp, outcome.log, *(desk := Desk()).handlers, *handlers, answer="yes"))
    assert ended.value == (None, "A")
    assert desk.arrived == []
    await comes_to_the_same(comp, ended, *handlers)


async def test_a_value_is_received_as_it_was_sent() -> None:
    """6.11 A value that its sender changes afterwards arrives as it was when it was sent, hot as well as cold."""

    @computation
    async def body() -> Effectful[list[str]]:
        value = ["a"]
        yield lists.send(value)
        value.append("b")
        yield Ask("go")
        got = yield lists.receive()
        assert got is not value
        yield Return(got)

    async with open_session(body(), *Desk().handlers, *handlers) as session:
        await session.outcome()
        await session.answer("x")
        hot = completed(await session.outcome())
    cold = suspended(await start(body(), *Desk().handlers, *handlers))
    ended = completed(await again(body(), cold.log, *Desk().handlers, *handlers, answer="x"))
    assert hot.value == ended.value == ["a"]


class Parcel(Struct, frozen=True):
    weight: int
    to: str | None = None


async def test_values_are_typed() -> None:
    """Structs, None and falsy values come out as the type that the channel declares, also from the log."""
    parcels = Channel("strands.parcels", Parcel | None, capacity=3)

    @computation
    async def body() -> Effectful[list[Parcel | None]]:
        yield parcels.send(Parcel(1, "x"))
        yield parcels.send(None)
        yield Ask("go")
        yield Return([(yield parcels.receive()), (yield parcels.receive())])

    outcome = suspended(await start(body(), parcels.handler()))
    ended = completed(await again(body(), outcome.log, parcels.handler(), answer="x"))
    assert ended.value == [Parcel(1, "x"), None]


async def test_a_value_that_does_not_fit_is_refused_at_its_line() -> None:
    """6.11 What the log could not give back is refused at the send; nothing is sent, and a resume goes on."""
    wrong: list[Any] = [object()]

    @computation
    async def body() -> Effectful[str]:
        yield queue.send(wrong[0])
        yield Return((yield queue.receive()))

    with pytest.raises(UnencodableError, match=r"Channel\[strands\.queue\]\.send") as caught:
        await start(body(), *handlers)
    assert caught.value.log is not None
    wrong[0] = "right"
    assert completed(await again(body(), caught.value.log, *handlers)).value == "right"


async def test_a_logged_value_of_another_type_is_an_error() -> None:
    """A value that no longer decodes is an UndecodableError: where it is replayed, and in the channel too."""

    @computation
    async def body() -> Effectful[str]:
        yield queue.send("a")
        yield queue.send("b")
        got = yield queue.receive()
        yield Ask("go")
        yield Return(got + (yield queue.receive()))

    log = suspended(await start(body(), *handlers)).log
    assert [value for _, _, value in of(log, "Channel[strands.queue].receive")] == ['{"number":1,"value":"a"}']
    edited = Log.from_json(log.to_json().replace(b'"number":1,"value":"a"', b'"number":1,"value":1'))
    with pytest.raises(UndecodableError, match=r"Channel\[strands\.queue\]\.receive"):
        await resume(body(), edited, *handlers, answer="x")


async def test_a_value_that_waits_for_another_type_is_an_error() -> None:
    """What is still in a channel and no longer decodes is an UndecodableError, wherever the channel is next used."""

    @computation
    async def body() -> Effectful[str]:
        yield Parallel.all(queue.send("a"))
        yield Ask("go")
        yield Return((yield queue.receive()))

    log = suspended(await start(body(), *handlers, prune_branches=True)).log
    edited = Log.from_json(log.to_json().replace(b'{"value":"a"}', b'{"value":1}'))
    assert edited.to_json() != log.to_json()
    with pytest.raises(UndecodableError, match=r"Channel\[strands\.queue\]"):
        await resume(body(), edited, *handlers, answer="x")


# -- closing -------------------------------------------------------------------------------------------------------


async def test_what_is_in_a_closed_channel_can_still_be_received() -> None:
    """`close` ends the sending: what is there is received; then each receive and send is a ChannelClosedError."""

    @computation
    async def body() -> Effectful[list[str]]:
        yield queue.send("a")
        yield queue.close()
        yield Ask("go")
        seen: list[str] = []
        for effect in (queue.receive(), queue.receive(), queue.send("b"), queue.receive()):
            seen.append((yield asking(effect)))  # noqa: PERF401 - a comprehension cannot yield
        yield Return(seen)

    outcome = suspended(await start(body(), *Desk().handlers, *handlers))
    ended = completed(await again(body(), outcome.log, *Desk().handlers, *handlers, answer="x"))
    assert ended.value == ["a", *["Channel[strands.queue] is closed."] * 3]
    await comes_to_the_same(body(), ended, *handlers)


@pytest.mark.parametrize("effect", [line.send("x"), line.receive()])
async def test_a_close_wakes_all_that_wait(effect: Effect[Any]) -> None:
    """Senders and receivers that wait are refused when the channel is closed, now and on every replay."""

    @computation
    async def closes() -> Effectful[None]:
        yield Call("gate")
        yield line.close()

    @computation
    async def body() -> Effectful[list[str]]:
        first, second, _ = yield Parallel.all(asking(effect), asking(effect), closes())
        yield Return([first, second])

    outcome = completed(await crash_anywhere(body(), Desk(), *handlers))
    assert outcome.value == ["Channel[strands.line] is closed."] * 2
    await comes_to_the_same(body(), outcome, *handlers)


async def test_a_closed_channel_can_fail_the_run() -> None:
    """The error of a closed channel is data: it fails the run with its class and text, and replays so."""

    @computation
    async def body() -> Effectful[None]:
        yield line.close()
        yield Parallel.all(line.receive(), calls("a"))

    outcome = failed(await start(body(), *Desk().handlers, *handlers))
    same = failed(await again(body(), outcome.log, *Desk().handlers, *handlers))
    for one in (outcome, same):
        assert isinstance(one.error, ChannelClosedError)
        assert str(one.error) == "Channel[strands.line] is closed."


# -- being stopped -------------------------------------------------------------------------------------------------


async def test_a_loser_that_waits_gets_nothing() -> None:
    """A value that is sent in the very moment in which a receiver is stopped is for those who still want it."""

    @computation
    async def asks_on() -> Effectful[str]:
        yield Return((yield Ask("never")))

    def ensured() -> Computation[str]:
        return asks_on().ensure(queue.send("last words"))

    @computation
    async def body() -> Effectful[str]:
        won = yield Parallel.race(first=ensured(), waits=queue.receive(), last=ensured(), winner=Call("gate"))
        assert won.name == "winner"
        first = yield queue.receive()
        second = yield queue.receive()
        yield Return(first + second)

    for _ in range(8):  # trio steps its tasks in any order
        desk = Desk("gate")
        async with open_session(body(), *desk.handlers, *handlers) as session:
            await desk.at("gate").wait()
            await anyio.wait_all_tasks_blocked()
            desk.let("gate")
            outcome = completed(await session.outcome())
        assert outcome.value == "last words" * 2
        await comes_to_the_same(body(), outcome, *handlers)


async def test_a_cancelled_task_leaves_the_channel() -> None:
    """A task that is cancelled while it waits is discarded there; what is sent then goes to another one."""

    @computation
    async def body() -> Effectful[list[str]]:
        receiver = yield fork(line.receive())
        sender = yield fork(queue_full())
        yield Call("both wait")
        yield cancel(receiver)
        yield cancel(sender)
        other = yield fork(line.receive())
        yield line.send("value")
        got = [(yield join(other)), (yield queue.receive()), (yield queue.receive())]
        yield queue.close()
        try:
            yield join(receiver)
        except TaskCancelledError:
            got.append((yield asking(queue.receive())))
        yield Return(got)

    @computation
    async def queue_full() -> Effectful[None]:
        for value in "abc":
            yield queue.send(value)

    outcome = completed(await crash_anywhere(body(), Desk(), *handlers))
    assert outcome.value == ["value", "a", "b", "Channel[strands.queue] is closed."]
    await comes_to_the_same(body(), outcome, *handlers)


async def test_cleanup_waits_at_a_channel_for_its_grace_time() -> None:
    """A cleanup that hands something over is not cut short when its strand is stopped: somebody may come for it."""

    @computation
    async def loses() -> Effectful[str]:
        yield Return((yield calls("quick").ensure(line.send("from cleanup"))))

    @computation
    async def takes() -> Effectful[str]:
        yield Call("late")
        yield Return((yield line.receive()))

    comp = Parallel.all(Parallel.race(loses=loses(), winner=Call("winner")), takes())
    desk = Desk("winner", "late")
    async with open_session(comp, *desk.handlers, *handlers) as session:
        for name in ("quick", "winner", "late"):
            await desk.at(name).wait()
            await anyio.wait_all_tasks_blocked()
            if name != "quick":
                desk.let(name)
        outcome: Any = completed(await session.outcome())
    assert outcome.value[0].name == "winner"
    assert outcome.value[1] == "from cleanup"
    await comes_to_the_same(comp, outcome, *handlers)


async def test_what_a_stopped_receiver_never_saw_is_for_the_next_one() -> None:
    """A value that arrives as its receiver is stopped is not lost: another one gets it, in order."""

    @computation
    async def body() -> Effectful[list[str]]:
        won = yield Parallel.race(taker=line.receive(), giver=line.send("first"))
        yield fork(line.send("second"))
        got = [won.value] if won.name == "taker" else [(yield line.receive())]
        yield Return([*got, (yield line.receive())])

    for _ in range(8):  # who is stepped first is chance
        outcome = completed(await start(body(), *Desk().handlers, *handlers))
        assert outcome.value == ["first", "second"]
        await comes_to_the_same(body(), outcome, *handlers)


async def test_what_is_taken_back_keeps_its_place() -> None:
    """It comes before what was sent after it."""

    @computation
    async def gives() -> Effectful[None]:
        yield queue.send("first")
        yield queue.send("second")

    @computation
    async def body() -> Effectful[list[str]]:
        won = yield Parallel.race(taker=queue.receive(), giver=gives())
        got = [won.value] if won.name == "taker" else [(yield queue.receive())]
        yield Return([*got, (yield queue.receive())])

    for _ in range(8):  # who is stepped first is chance
        outcome = completed(await start(body(), *Desk().handlers, *handlers))
        assert outcome.value == ["first", "second"]
        await comes_to_the_same(body(), outcome, *handlers)


async def test_what_was_handed_over_is_released_wherever_the_run_dies() -> None:
    """A receive that acquires something: the receiver is stopped in the moment of getting it, and releases it once."""

    @computation
    async def body() -> Effectful[str]:
        won = yield Parallel.race(
            taker=bracket(line.receive(), lambda _: calls("hang"), Release), giver=line.send("room")
        )
        yield Call("then")
        yield Return(won.name)

    for _ in range(8):  # who is stepped first is chance
        desk = Desk()
        outcome = completed(await crash_anywhere(body(), desk, *handlers))
        assert desk.arrived[desk.arrived[0] == "hang" :] == ["release room", "then"]
        await comes_to_the_same(body(), outcome, *handlers)


async def test_a_task_that_fails_as_it_sends() -> None:
    """What it sent was received: its activation goes on from there to the failure in the same way on every replay."""

    @computation
    async def fails() -> Effectful[None]:
        yield line.send("last")
        message = "task"
        raise ValueError(message)

    @computation
    async def body() -> Effectful[str]:
        yield fork(fails())
        got = yield line.receive()
        yield lists.send([got])
        yield Call("then")
        yield Return(got)

    for _ in range(8):  # who is stepped first is chance
        outcome = failed(await start(body(), *Desk().handlers, *handlers))
        assert repr(outcome.error) == "ValueError('task')"
        await comes_to_the_same(body(), outcome, *handlers)


async def test_a_cancelled_run_comes_to_the_same() -> None:
    """A run cancel reaches strands that wait at a channel: their entries are discarded, and replay as that."""

    @computation
    async def body() -> Effectful[None]:
        yield Parallel.all(line.receive(), queue_full(), calls("hang"))

    @computation
    async def queue_full() -> Effectful[None]:
        for value in "abc":
            yield queue.send(value)

    desk = Desk()
    async with open_session(body(), *desk.handlers, *handlers) as session:
        await desk.at("hang").wait()
        await anyio.wait_all_tasks_blocked()
        outcome = cancelled(await session.cancel("enough"))
    assert sorted(states(outcome.log).values()) == [*["discarded"] * 4, *["executed"] * 2]
    await comes_to_the_same(body(), outcome, *handlers)


async def test_cleanup_that_nobody_comes_for_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a cancelled run, what cleanup or an acquisition waits for at a channel has the grace time, and no more."""
    monkeypatch.setattr("skuld_async._computation.CLEANUP_GRACE", 0.05)

    @computation
    async def body() -> Effectful[None]:
        yield Parallel.all(
            calls("hang").ensure(line.send("bye")), bracket(queue.receive(), lambda _: calls("a"), Release)
        )

    desk = Desk()
    async with open_session(body(), *desk.handlers, *handlers) as session:
        await desk.at("hang").wait()
        await anyio.wait_all_tasks_blocked()
        outcome = cancelled(await session.cancel("enough"))
    assert set(states(outcome.log).values()) == {"discarded"}
    await comes_to_the_same(body(), outcome, *handlers)


async def test_a_host_cancel_leaves_them_waiting() -> None:
    """7.7 A host cancel is a cold suspension: who waits at a channel is started, and the resume goes on."""
    comp = Parallel.all(sends(line, "a", "hang"), receives(line))
    desk, both_wait = Desk(), anyio.Event()
    async with anyio.create_task_group() as group:

        async def watch() -> None:
            await desk.at("hang").wait()
            await anyio.wait_all_tasks_blocked()
            both_wait.set()

        group.start_soon(watch)
        log = await host_cancelled(comp, *desk.handlers, *handlers, when=both_wait)
    assert [state for _, state, _ in of(log, "Channel[strands.line].receive")] == ["executed", "started"]
    other = Desk("hang")
    other.let("hang")
    ended = completed(await again(comp, log, *other.handlers, *handlers))
    assert ended.value == (None, ["A", "HANG"])
    assert "a" not in other.arrived


async def test_a_time_limit_around_a_receive() -> None:
    """A receive whose time is over gives TimedOut, hot and cold; a value that comes later is for the next receiver."""

    @computation
    async def body() -> Effectful[list[Any]]:
        first = yield with_timeout(line.receive(), timedelta(minutes=1))
        yield fork(sends(line, "late"))
        second = yield with_timeout(line.receive(), timedelta(minutes=1))
        yield Return([isinstance(first, TimedOut), second])

    clock = VirtualClock()
    own = [clock.handler(), *Desk().handlers, *handlers]
    async with open_session(body(), *own) as session:
        assert suspended(await session.outcome()).waits == ()
        clock.advance(timedelta(minutes=1))
        hot = completed(await session.outcome())
    cold = suspended(await start(body(), *own))
    assert cold.wake_at is not None
    clock.advance(timedelta(minutes=1))
    ended = completed(await again(body(), cold.log, *own))
    assert hot.value == ended.value == [True, "LATE"]
    await comes_to_the_same(body(), ended, clock.handler(), *handlers)


async def test_a_scope_of_the_body_ends_a_wait() -> None:
    """6.8 A deadline of the body around a receive is no deadlock: the entry is discarded, and so it is on replay."""

    @computation
    async def body() -> Effectful[str]:
        with anyio.move_on_after(0.01):
            yield line.receive()
        yield fork(sends(line, "a"))
        yield Return((yield line.receive()))

    outcome = completed(await start(body(), *Desk().handlers, *handlers))
    assert outcome.value == "A"
    assert outcome.log.entries[0].error
    assert outcome.log.entries[0].error.kind == "body-scope"
    await comes_to_the_same(body(), outcome, *handlers)


@pytest.mark.parametrize("first", [True, False])
async def test_a_scope_that_is_cancelled_as_the_value_arrives(first: bool) -> None:
    """What was handed over stays so, and the body has it; the scope ends its next await, on every replay too."""

    @computation
    async def body() -> Effectful[list[str]]:
        scope, got = anyio.CancelScope(), list[str]()

        @computation
        async def takes() -> Effectful[None]:
            with scope:
                got.append((yield line.receive()))
                await anyio.sleep_forever()
            yield Call("after")

        @computation
        async def gives() -> Effectful[None]:
            yield Call("before")
            if first:
                scope.cancel()
            yield line.send("value")
            scope.cancel()

        yield Parallel.all(takes(), gives())
        yield Return(got)

    outcome = completed(await start(body(), *Desk().handlers, *handlers))
    assert outcome.value == ["value"]
    await comes_to_the_same(body(), outcome, *handlers)


# -- standing still ------------------------------------------------------------------------------------------------


async def test_a_deadlock_says_where_and_a_resume_goes_on_after_the_fix() -> None:
    """A DeadlockError names each line that waits, and holds the log: with the missing `close`, the run goes on."""
    fixed: list[bool] = []

    @computation
    async def forgets() -> Effectful[None]:
        made = yield Call("a")
        yield line.send(made)
        if fixed:
            yield line.close()

    comp = Parallel.all(forgets(), receives(line))
    with pytest.raises(DeadlockError) as caught, anyio.fail_after(20):
        await start(comp, *Desk().handlers, *handlers)
    assert [one.rpartition(" at ")[0] for one in caught.value.waiting] == ["Channel[strands.line].receive"]
    assert "test_channel.py:" in caught.value.waiting[0]
    log = caught.value.log
    assert log is not None
    assert log.header.status == "running"

    with pytest.raises(DeadlockError):
        await again(comp, log, *(desk := Desk()).handlers, *handlers)
    assert desk.arrived == []
    fixed.append(True)
    ended = completed(await again(comp, log, *desk.handlers, *handlers))
    assert ended.value == (None, ["A"])
    assert desk.arrived == []


async def test_a_deadlock_among_many_names_all() -> None:
    """Senders and receivers of several channels, in branches and tasks: each is named."""

    @computation
    async def body() -> Effectful[None]:
        yield fork(line.receive())
        yield Parallel.all(queue.receive(), sends(lists_of(), "a", "b"))

    def lists_of() -> Channel[str]:
        return narrow

    narrow = Channel("strands.narrow", str)
    with pytest.raises(DeadlockError) as caught:
        await start(body(), *Desk().handlers, *handlers, narrow.handler())
    assert sorted(one.rpartition(" at ")[0] for one in caught.value.waiting) == [
        "Channel[strands.line].receive",
        "Channel[strands.narrow].send",
        "Channel[strands.queue].receive",
    ]


async def test_no_deadlock_while_something_may_come_from_outside() -> None:
    """While a question is open, a sleep is not over or a call is out, a receiver simply waits."""

    @computation
    async def later(effect: Effect[Any]) -> Effectful[None]:
        yield effect
        yield line.send("came")

    clock = VirtualClock()
    own = [clock.handler(), *Desk().handlers, *handlers]

    question = Parallel.all(line.receive(), later(Ask("q")))
    outcome = suspended(await start(question, *own))
    assert completed(await again(question, outcome.log, *own, answer="x")).value == ("came", None)

    sleep = Parallel.all(line.receive(), later(Clock.sleep(timedelta(hours=1))))
    outcome = suspended(await start(sleep, *own))
    clock.advance(timedelta(hours=1))
    assert completed(await again(sleep, outcome.log, *own)).value == ("came", None)

    call = Parallel.all(line.receive(), later(Call("slow")))
    desk = Desk("slow")
    async with open_session(call, *desk.handlers, *handlers) as session:
        await desk.at("slow").wait()
        await anyio.wait_all_tasks_blocked()
        desk.let("slow")
        assert completed(await session.outcome()).value == ("came", None)


@computation
async def root_calls() -> Effectful[str]:
    """The root is at a call while a task waits for what it sends then."""
    task = yield fork(line.receive())
    made = yield Call("hang")
    yield line.send(made)
    yield Return((yield join(task)))


async def test_no_deadlock_in_the_replay_of_a_run_that_is_under_way() -> None:
    """`replay` performs nothing: strands that have to stop there do not leave the others waiting for one another."""
    for comp in (
        root_calls(),
        Parallel.all(sends(line, "a", "hang"), receives(line)),
        Parallel.all(receives(line), sends(line, "a", "hang")),
    ):
        desk = Desk()
        log = await host_cancelled(comp, *desk.handlers, *handlers, when=desk.at("hang"))
        outcome = suspended(await replay(comp, stored(log), *(other := Desk()).handlers, *handlers))
        assert outcome.waits == ()
        assert other.arrived == []
        assert outcome.log.to_json() == log.to_json()


async def test_a_failure_elsewhere_is_no_deadlock() -> None:
    """An error in the only strand that would have sent is that error, not a deadlock."""

    @computation
    async def fails() -> Effectful[None]:
        yield Call("bad")

    comp = Parallel.all(receives(line), fails())
    outcome = failed(await start(comp, *Desk(errors={"bad": ValueError("x")}).handlers, *handlers))
    assert repr(outcome.error) == "ValueError('x')"
    await comes_to_the_same(comp, outcome, *handlers)


# -- scopes --------------------------------------------------------------------------------------------------------


async def test_without_a_handler_the_request_is_refused() -> None:
    """5.6 A channel that no scope has is refused at its line; with the handler, a resume goes on."""

    @computation
    async def body() -> Effectful[str]:
        yield Call("a")
        yield queue.send("x")
        yield Return((yield queue.receive()))

    with pytest.raises(UnhandledEffectError, match=r"nothing handles Channel\[strands\.queue\]\.send") as caught:
        await start(body(), *Desk().handlers, line.handler())
    assert caught.value.log is not None
    ended = completed(await again(body(), caught.value.log, *(desk := Desk()).handlers, *handlers))
    assert ended.value == "x"
    assert desk.arrived == []


async def test_each_scope_has_its_own_channel() -> None:
    """An inner handler is another channel, with values of its own, which a resume inside of it finds again."""

    @computation
    async def inside(name: str) -> Effectful[str]:
        yield queue.send(name)
        yield Ask(name)
        yield Return((yield queue.receive()))

    @computation
    async def body() -> Effectful[list[str]]:
        yield queue.send("outer")
        both = yield Parallel.all(inside("a").handle(queue.handler()), inside("b").handle(queue.handler()))
        third = yield inside("c").handle(queue.handler())
        yield Return([*both, third, (yield queue.receive())])

    outcome: Any = await start(body(), *Desk().handlers, *handlers)
    while isinstance(outcome, Suspended):
        wait = next(iter(waits_by_name(outcome).values()))
        outcome = await again(body(), outcome.log, *Desk().handlers, *handlers, answer="go", to=wait)
    assert completed(outcome).value == ["a", "b", "c", "outer"]
    await comes_to_the_same(body(), outcome, *handlers)


class Fetch(Effect[str], frozen=True):
    """Its handler is a computation that asks another strand."""

    name: str


async def test_a_handler_that_uses_a_channel() -> None:
    """A handler sends and receives in the scope where it was installed; passed over on replay, it still has done so."""

    @computation
    async def fetch(effect: Fetch) -> Effectful[str]:
        yield queue.send(effect.name)
        yield Return((yield line.receive()))

    @computation
    async def serves() -> Effectful[None]:
        try:
            while True:
                name = yield queue.receive()
                made = yield Call(name)
                yield line.send(made)
        except ChannelClosedError:
            pass

    @computation
    async def asks() -> Effectful[list[str]]:
        got = [(yield Fetch("a"))]
        yield Ask("between")
        got.append((yield Fetch("b")))
        yield queue.close()
        yield Return(got)

    comp = Parallel.all(asks(), serves())
    own = [*handlers, Fetch.handled_by(fetch)]
    outcome = suspended(await start(comp, *Desk().handlers, *own))
    ended = completed(await again(comp, outcome.log, *(desk := Desk()).handlers, *own, answer="x"))
    assert ended.value == (["A", "B"], None)
    assert desk.arrived == ["b"]
    await comes_to_the_same(comp, ended, *own)


# -- questions -----------------------------------------------------------------------------------------------------


@computation
async def interview() -> Effectful[list[str]]:
    """A strand asks, and another one works on the answers."""

    @computation
    async def asks_all() -> Effectful[None]:
        for about in "abc":
            answer = yield Ask(about)
            yield queue.send(f"{about}={answer}")
        yield queue.close()

    _, got = yield Parallel.all(asks_all(), receives(queue))
    yield Return(got)


async def test_questions_and_a_channel() -> None:
    """Answers that go through a channel come to the same hot, cold, and cold at every step."""
    async with open_session(interview(), *Desk().handlers, *handlers) as session:
        while isinstance(outcome := await session.outcome(), Suspended):
            await session.answer("yes")
    hot = completed(outcome)
    cold: Any = await start(interview(), *Desk().handlers, *handlers)
    while isinstance(cold, Suspended):
        cold = await again(interview(), cold.log, *Desk().handlers, *handlers, answer="yes")
    assert hot.value == completed(cold).value == ["a=yes", "b=yes", "c=yes"]
    await comes_to_the_same(interview(), hot, *handlers)
    await comes_to_the_same(interview(), cold, *handlers)


async def test_always_cold() -> None:
    """A pipeline that is resumed at every effect comes to the same."""

    @computation
    async def body() -> Effectful[list[str]]:
        _, got = yield Parallel.all(sends(line, "a", "b", "c"), receives(line))
        yield Return(got)

    assert completed(await always_cold(body(), *Desk().handlers, *handlers)).value == ["A", "B", "C"]


# -- marks ---------------------------------------------------------------------------------------------------------

atom = AtomicState("strands.atom", int)


@computation
async def producing(channel: Channel[str], count: int) -> Effectful[int]:
    made = 0
    while made < count:
        made = yield mark_loop("producing", int, carry=made)
        value = yield Call(f"v{made}")
        yield channel.send(value)
        yield atom.modify(lambda number: number + 1)
        made += 1
    yield channel.close()
    yield Return(made)


@computation
async def consuming(channel: Channel[str]) -> Effectful[list[str]]:
    got: list[str] = []
    try:
        while True:
            got = yield mark_loop("consuming", list[str], carry=got)
            value = yield channel.receive()
            yield Call(f"use {value}")
            got = [*got, value]
    except ChannelClosedError:
        yield Return(got)


@pytest.mark.parametrize("state_keys", [None, [], ["State[other]"]])
@pytest.mark.parametrize("channel", [line, queue])
async def test_marks_prune_what_went_through_a_channel(channel: Channel[str], state_keys: list[str] | None) -> None:
    """The log of an endless pipeline stays small; each value is received once, wherever the run dies.

    What strands share is in each mark, whatever other state is left out of it.
    """

    @computation
    async def body() -> Effectful[tuple[int, list[str], int]]:
        made, got = yield Parallel.all(producing(channel, 7), consuming(channel))
        yield Return((made, got, (yield atom.get())))

    own = [*handlers, atom.handler(0)]
    outcome = completed(await crash_anywhere(body(), Desk(), *own, state_keys=state_keys))
    assert outcome.value == (7, [f"V{number}" for number in range(7)], 7)
    assert len(outcome.log.entries) < 12
    await comes_to_the_same(body(), outcome, *own)


# -- transactions --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def unit() -> AsyncGenerator[None]:
    await anyio.lowlevel.checkpoint()
    yield


async def test_a_transaction_that_is_rolled_back_has_taken_what_it_took() -> None:
    """A rollback does not reach into a channel: what was received there is taken, what was sent is sent."""

    @computation
    async def takes() -> Effectful[None]:
        got = yield queue.receive()
        yield queue.send(f"{got} again")
        message = "roll back"
        raise ValueError(message)

    @computation
    async def body() -> Effectful[list[str]]:
        yield queue.send("a")
        yield queue.send("b")
        try:
            yield transact(takes())
        except ValueError:
            pass
        yield queue.close()
        yield Return((yield receives(queue)))

    own = [*handlers, Transaction.handler(unit)]
    outcome = completed(await crash_anywhere(body(), Desk(), *own))
    assert outcome.value == ["b", "a again"]
    await comes_to_the_same(body(), outcome, *own)


async def test_a_transaction_that_dies_receives_again_what_it_had() -> None:
    """A transaction that is performed again receives the same values again, though others have received since."""

    @computation
    async def inside() -> Effectful[str]:
        got = yield queue.receive()
        yield Call(f"hang {got}")
        yield Return(got)

    @computation
    async def books() -> Effectful[str]:
        yield Return((yield transact(inside())))

    @computation
    async def others() -> Effectful[str]:
        yield Call("gate")
        yield Return((yield queue.receive()))

    comp = Parallel.all(sends(queue, "a", "b"), books(), others())
    own = [*handlers, Transaction.handler(unit)]
    desk = Desk("gate", "b")
    into = Log()
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(partial(start, comp, *desk.handlers, *own, into=into))
            await desk.at("hang A").wait()
            desk.let("gate", "b")
            await anyio.wait_all_tasks_blocked()
            died = into.to_json()
            scope.cancel()
    other = Desk("hang A")
    other.let("hang A")
    ended = completed(await again(comp, Log.from_json(died), *other.handlers, *own))
    assert ended.value == (None, "A", "B")
    await comes_to_the_same(comp, ended, *own)


async def test_what_a_dead_transaction_had_received_is_for_whoever_comes_first() -> None:
    """It is in the channel again from the start of the resume, also for a strand that was waiting there."""

    @computation
    async def inside() -> Effectful[str]:
        got = yield queue.receive()
        yield Call("hang")
        yield Return(got)

    @computation
    async def waits() -> Effectful[str]:
        yield Call("gate")
        yield Return((yield queue.receive()))

    @computation
    async def gives() -> Effectful[None]:
        yield queue.send("a")
        yield Call("hang too")
        yield queue.send("b")

    comp = Parallel.all(waits(), transact(inside()), gives())
    own = [*handlers, Transaction.handler(unit)]
    for _ in range(8):  # who is stepped first is chance
        desk = Desk("gate")
        into = Log()
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(partial(start, comp, *desk.handlers, *own, into=into))
                await desk.at("hang").wait()
                desk.let("gate")
                await anyio.wait_all_tasks_blocked()
                died = into.to_json()
                scope.cancel()
        other = Desk("hang", "hang too")
        other.let("hang", "hang too")
        ended = completed(await again(comp, Log.from_json(died), *other.handlers, *own))
        waited, booked, _ = ended.value
        assert sorted([waited, booked]) == ["a", "b"]
        await comes_to_the_same(comp, ended, *own)
