"""Channel without a log: values from one strand to another, and strands that wait for one another."""

from typing import Any

import anyio
import pytest

from skuld_async import (
    Channel,
    ChannelClosedError,
    Computation,
    DeadlockError,
    DeclarationError,
    Effect,
    Effectful,
    Parallel,
    Return,
    UnhandledEffectError,
    bracket,
    cancel,
    computation,
    fork,
    join,
    run,
)

line = Channel("kernel.line", int)
queue = Channel("kernel.queue", int, capacity=2)


class Gate(Effect[None], frozen=True):
    """Is passed once the test has opened it."""

    name: str = "gate"


class Gates:
    def __init__(self, *closed: str) -> None:
        self.reached: dict[str, anyio.Event] = {}
        self._open = {name: anyio.Event() for name in closed}

    def at(self, name: str = "gate") -> anyio.Event:
        """Set once somebody stands at it."""
        return self.reached.setdefault(name, anyio.Event())

    def open(self, name: str = "gate") -> None:
        self._open[name].set()

    async def serve(self, effect: Gate) -> None:
        self.at(effect.name).set()
        await anyio.lowlevel.checkpoint()
        if effect.name in self._open:
            await self._open[effect.name].wait()

    @property
    def handlers(self) -> list[Any]:
        return [Gate.handled_by(self.serve), line.handler(), queue.handler()]


@computation
async def sends(channel: Channel[int], *values: int) -> Effectful[None]:
    """Sends them and closes."""
    for value in values:
        yield channel.send(value)
    yield channel.close()


@computation
async def receives(channel: Channel[int]) -> Effectful[list[int]]:
    """All that is sent."""
    got: list[int] = []
    try:
        while True:
            value = yield channel.receive()
            got.append(value)
    except ChannelClosedError:
        yield Return(got)


@computation
async def behind(gate: str, comp: Computation[Any]) -> Effectful[Any]:
    """*comp*, once *gate* is open."""
    yield Gate(gate)
    yield Return((yield comp))


@pytest.mark.parametrize("capacity", [0, 1, 2, 7])
async def test_values_arrive_in_the_order_in_which_they_were_sent(capacity: int) -> None:
    """Whatever the capacity, first in is first out, and the close comes behind the last value."""
    channel = Channel("kernel.fifo", int, capacity=capacity)
    _, got = await run(Parallel.all(sends(channel, *range(5)), receives(channel)), channel.handler())
    assert got == [0, 1, 2, 3, 4]


async def test_a_sender_waits_until_its_value_is_received() -> None:
    """With a capacity of 0, `send` is over when the value is taken, and not before."""
    story: list[str] = []

    @computation
    async def sender() -> Effectful[None]:
        yield line.send(1)
        story.append("sent")

    @computation
    async def receiver() -> Effectful[int]:
        yield Gate()
        story.append("receives")
        yield Return((yield line.receive()))

    assert await run(Parallel.all(sender(), receiver()), *Gates().handlers) == (None, 1)
    assert story == ["receives", "sent"]


async def test_a_sender_waits_only_while_the_channel_is_full() -> None:
    """With a capacity of 2, two values are sent though nobody receives; the third one waits."""
    sent: list[int] = []
    found: list[list[int]] = []

    @computation
    async def sender() -> Effectful[None]:
        for value in range(4):
            yield queue.send(value)
            sent.append(value)
        yield queue.close()

    @computation
    async def receiver() -> Effectful[list[int]]:
        yield Gate()
        found.append(list(sent))
        yield Return((yield receives(queue)))

    assert await run(Parallel.all(sender(), receiver()), *Gates().handlers) == (None, [0, 1, 2, 3])
    assert found == [[0, 1]]
    assert sent == [0, 1, 2, 3]


async def test_who_waits_first_is_served_first() -> None:
    """Receivers that wait get their values in the order in which they came, as senders that wait get rid of theirs."""
    gates = Gates("b", "c", "late")
    got: list[str] = []

    @computation
    async def receiver(name: str) -> Effectful[None]:
        yield Gate(name)
        value = yield line.receive()
        got.append(f"{name}{value}")

    @computation
    async def sender() -> Effectful[None]:
        yield Gate("late")
        for value in range(3):
            yield line.send(value)
            yield Gate("next")

    async with anyio.create_task_group() as group:
        branches = [sender(), receiver("c"), receiver("b"), receiver("a")]
        group.start_soon(run, Parallel.all(*branches), *gates.handlers)
        for name in ("a", "b", "c", "late"):
            await gates.at(name).wait()
        for name in ("b", "c", "late"):
            await anyio.wait_all_tasks_blocked()
            gates.open(name)
    assert got == ["a0", "b1", "c2"]


async def test_what_is_in_a_closed_channel_can_still_be_received() -> None:
    """`close` ends the sending: receivers get what is there, and then a ChannelClosedError, each time they ask."""

    @computation
    async def body() -> Effectful[list[object]]:
        seen: list[object] = []
        yield queue.send(1)
        yield queue.send(2)
        yield queue.close()
        yield queue.close()
        for effect in (queue.receive(), queue.receive(), queue.receive(), queue.receive(), queue.send(3)):
            try:
                seen.append((yield effect))
            except ChannelClosedError as error:
                seen.append(str(error))
        yield Return(seen)

    closed = "Channel[kernel.queue] is closed."
    assert await run(body(), queue.handler()) == [1, 2, closed, closed, closed]


async def test_a_close_wakes_all_that_wait() -> None:
    """Receivers and senders that wait are refused when the channel is closed; a waiting sender's value is not sent."""

    @computation
    async def tries(effect: Effect[Any]) -> Effectful[str]:
        try:
            yield effect
        except ChannelClosedError as error:
            yield Return(error.channel)
            return
        yield Return("done")

    @computation
    async def closes(channel: Channel[int]) -> Effectful[None]:
        yield Gate()
        yield channel.close()

    receivers = Parallel.all(tries(line.receive()), tries(line.receive()), closes(line))
    assert await run(receivers, *Gates().handlers) == ("Channel[kernel.line]", "Channel[kernel.line]", None)
    senders = Parallel.all(tries(line.send(1)), tries(line.send(2)), closes(line))
    assert await run(senders, *Gates().handlers) == ("Channel[kernel.line]", "Channel[kernel.line]", None)


async def test_each_value_goes_to_one_receiver() -> None:
    """Of several senders and receivers, each value is received exactly once."""

    @computation
    async def produce(first: int) -> Effectful[None]:
        for value in range(first, first + 4):
            yield Gate()
            yield queue.send(value)

    @computation
    async def produce_all() -> Effectful[None]:
        yield Parallel.all(produce(0), produce(10), produce(20))
        yield queue.close()

    branches = (produce_all(), receives(queue), receives(queue))
    _, left, right = await run(Parallel.all(*branches), *Gates().handlers)
    assert sorted([*left, *right]) == [*range(4), *range(10, 14), *range(20, 24)]


async def test_strands_that_wait_for_one_another_are_a_deadlock() -> None:
    """Where nobody can move and nothing comes from outside, `run` says so, and names each line that waits."""

    @computation
    async def receiver() -> Effectful[int]:
        yield Return((yield line.receive()))

    @computation
    async def sender() -> Effectful[None]:
        for value in range(3):
            yield queue.send(value)

    comp = Parallel.all(receiver(), sender())
    with pytest.raises(DeadlockError) as caught, anyio.fail_after(20):
        await run(comp, *Gates().handlers)
    waiting = sorted(one.rpartition(" at ")[0] for one in caught.value.waiting)
    assert waiting == ["Channel[kernel.line].receive", "Channel[kernel.queue].send"]
    assert all("test_channel.py:" in one for one in caught.value.waiting)
    assert all(one in str(caught.value) for one in caught.value.waiting)


async def test_one_strand_alone_is_a_deadlock_too() -> None:
    """A body that sends to nobody, or receives from nobody, and a task that does so while its activation waits."""

    @computation
    async def holds() -> Effectful[None]:
        yield fork(line.receive())

    for comp in (sends(line, 1), receives(line), holds()):
        with pytest.raises(DeadlockError), anyio.fail_after(20):
            await run(comp, line.handler())


async def test_no_deadlock_while_a_call_is_out() -> None:
    """A strand that waits at a channel waits as long as another strand is at its call."""
    gates = Gates("gate")
    got: list[Any] = []

    async def go() -> None:
        got.append(await run(Parallel.all(receives(line), behind("gate", sends(line, 1))), *gates.handlers))

    async with anyio.create_task_group() as group:
        group.start_soon(go)
        await gates.at().wait()
        await anyio.wait_all_tasks_blocked()
        gates.open()
    assert got == [([1], None)]


async def test_who_is_stopped_gets_nothing() -> None:
    """A value that is sent while a loser of a race, or a cancelled task, waits is for those who still want it."""

    @computation
    async def races() -> Effectful[int]:
        yield Parallel.race(loser=line.receive(), winner=Gate())
        task = yield fork(line.receive())
        yield Gate()
        yield cancel(task)
        yield queue.send(0)
        yield Return((yield line.receive()))

    @computation
    async def body() -> Effectful[int]:
        task = yield fork(races())
        yield queue.receive()
        yield line.send(7)
        got = yield join(task)
        yield Return(got)

    assert await run(body(), *Gates().handlers) == 7


async def test_what_a_stopped_receiver_never_saw_is_for_the_next_one() -> None:
    """A value that arrives in the moment in which its receiver is stopped is not lost, and no body sees another one."""
    seen: list[object] = []

    @computation
    async def takes() -> Effectful[int]:
        value = yield line.receive()
        seen.append(value)
        yield Return(value)

    @computation
    async def body() -> Effectful[list[int]]:
        won = yield Parallel.race(taker=takes(), giver=line.send(1))
        yield fork(line.send(2))
        got = [won.value] if won.name == "taker" else [(yield line.receive())]
        yield Return([*got, (yield line.receive())])

    for _ in range(8):  # who is stepped first is chance
        seen.clear()
        assert await run(body(), line.handler()) == [1, 2]
        assert seen in ([], [1])


async def test_a_scope_of_the_body_ends_a_wait() -> None:
    """A cancel scope of the body around a receive ends it as it ends any await; the next receiver gets the value."""
    scope = anyio.CancelScope()

    @computation
    async def gives_up() -> Effectful[int]:
        with scope:
            yield line.receive()
        yield Return((yield line.receive()))

    @computation
    async def sender() -> Effectful[None]:
        yield Gate()
        scope.cancel()
        yield Gate("given up")
        yield line.send(1)

    gates = Gates("gate", "given up")
    got: list[Any] = []

    async def go() -> None:
        got.append(await run(Parallel.all(gives_up(), sender()), *gates.handlers))

    async with anyio.create_task_group() as group:
        group.start_soon(go)
        for name in ("gate", "given up"):
            await gates.at(name).wait()
            await anyio.wait_all_tasks_blocked()
            gates.open(name)
    assert got == [(1, None)]


async def test_what_was_handed_over_is_released() -> None:
    """A bracket whose acquisition is a receive releases what it got, also if it is stopped right then."""
    released: list[int] = []

    @computation
    async def release(value: int) -> Effectful[None]:
        released.append(value)
        yield Gate()

    @computation
    async def hangs(_value: int) -> Effectful[None]:
        yield Gate("closed")

    comp = Parallel.race(taker=bracket(line.receive(), hangs, release), giver=line.send(3))
    won = await run(comp, *Gates("closed").handlers)
    assert won.name == "giver"
    assert released == [3]


async def test_each_scope_has_its_own_channel() -> None:
    """An inner handler is another channel: what is in it is not seen outside, and gone with its scope."""

    @computation
    async def leaves(value: int) -> Effectful[None]:
        yield queue.send(value)

    @computation
    async def body() -> Effectful[list[int]]:
        yield queue.send(1)
        yield leaves(2).handle(queue.handler())
        yield leaves(3)
        yield queue.close()
        yield Return((yield receives(queue)))

    assert await run(body(), queue.handler()) == [1, 3]


async def test_strands_under_a_scope_share_its_channel() -> None:
    """Branches and tasks below the scope of a channel all mean that one."""

    @computation
    async def inside() -> Effectful[list[int]]:
        yield fork(sends(queue, 1, 2, 3))
        yield Return((yield Parallel.race(only=receives(queue))).value)

    @computation
    async def body() -> Effectful[list[int]]:
        yield Return((yield inside().handle(queue.handler())))

    assert await run(body()) == [1, 2, 3]


async def test_without_a_handler_the_request_is_refused() -> None:
    """A channel that no scope has is refused at the line that asks for it, with what is in scope."""

    @computation
    async def asks(effect: Effect[Any]) -> Effectful[None]:
        yield effect

    for effect in (line.send(1), line.receive(), line.close()):
        with pytest.raises(UnhandledEffectError, match=r"nothing handles Channel\[kernel\.line\]\.\w+ at .*test_chan"):
            await run(asks(effect), queue.handler())


async def test_a_capacity_is_never_below_zero() -> None:
    """A capacity below 0 is refused where the channel is declared."""
    with pytest.raises(DeclarationError, match=r"capacity=-1 is below 0"):
        Channel("kernel.negative", int, capacity=-1)
