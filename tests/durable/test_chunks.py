"""A log that is written as chunks, each what has changed since the one before it, reads back as the log."""

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import Any, cast

import anyio
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from skuld_async import (
    Clock,
    Completed,
    Computation,
    DeploymentError,
    Effectful,
    Handler,
    Log,
    LogDecodeError,
    Outcome,
    Return,
    Session,
    Suspended,
    Yield,
    computation,
    mark_loop,
    open_session,
)
from skuld_async.log.chunks import Changes, log_of
from skuld_async.testing import VirtualClock
from tests.log import programs as sequential
from tests.strands import programs as concurrent
from tests.strands import scheduler, test_random_tasks
from tests.strands.scheduler import World, each


class Copy:
    """The chunks of a run, kept by whoever watches its session; each time they are compared with the log.

    Args:
        chunks: What was kept before.
    """

    def __init__(self, chunks: Sequence[bytes] = ()) -> None:
        self.chunks = list(chunks)
        self.left: list[list[bytes]] = []
        """The chunks at each moment: what a process leaves that dies then."""
        self.wholes = 0
        """How often the whole log was written."""
        self.written = 0
        """Bytes that were ever written."""
        self.rests = False
        self._changes: Changes | None = None
        self._log = Log()

    def of(self, session: Session[Any]) -> None:
        """Watch *session*."""
        stored = log_of(self.chunks)[1] if self.chunks else None
        self._changes, self._log = Changes(session.book, stored), session.log
        session._tell = self.take

    def take(self, _: object = None) -> None:
        """Keep what is new."""
        assert self._changes is not None
        before = self._log.to_json()
        chunk = self._changes.take(rests=self.rests)
        assert self._log.to_json() == before  # which it only reads
        if chunk is not None:
            if chunk.is_whole:
                self.chunks.clear()
                self.wholes += 1
            self.chunks.append(chunk.data)
            self.written += len(chunk.data)
        log, written = log_of(self.chunks)
        assert log.to_json() == before, (log, self._log, self.chunks)
        assert written == self._changes._written
        assert written <= 2 * len(log.entries) + 64 or self._log.dropped
        if not self.left or chunk is not None:
            self.left.append(list(self.chunks))

    def logs(self, number: int, seed: int) -> list[list[bytes]]:
        """Some of the moments."""
        return random.Random(seed).sample(self.left, min(number, len(self.left)))


# -- programs with one strand: loops, transactions, nested handlers, questions ---------------------------------------


async def finish(steps: list[sequential.Step], copy: Copy, database: sequential.Database, **options: Any) -> Any:
    """Run the steps, or go on with what *copy* has, to their end; each question is answered."""
    scope: list[Handler] = [VirtualClock().handler(), *sequential.handlers(database)]
    options |= {"log": log_of(copy.chunks)[0]} if copy.chunks else {"id": "run", "seed": "seed"}
    session = open_session(sequential.program(steps), *scope, observe=[copy.take], **options)
    copy.of(session)
    async with session:
        outcome = await session.outcome()
        while isinstance(outcome, Suspended):
            copy.rests = True
            copy.take()
            copy.rests = False
            question: Any = outcome.question
            await session.answer(sequential.answer(question))
            outcome = await session.outcome()
        copy.take()
        return outcome


@each(20)
@given(sequential.programs, st.booleans(), st.integers(0, 2**16))
async def test_any_program_of_one_strand(steps: list[sequential.Step], prune: bool, seed: int) -> None:
    """At every change the chunks are the log, and a run that goes on from any of them comes to the same."""
    copy = Copy()
    outcome = await finish(steps, copy, sequential.Database(), prune_loops=prune)
    for chunks in copy.logs(3, seed):
        again = await finish(steps, Copy(chunks), sequential.Database(), prune_loops=prune)
        assert _told(again) == _told(outcome)


def _told(outcome: Outcome[Any]) -> Any:
    return outcome.value if isinstance(outcome, Completed) else type(outcome)


@each(20)
@given(sequential.programs, sequential.programs, st.integers(0, 2**16))
async def test_any_divergence(steps: list[sequential.Step], others: list[sequential.Step], seed: int) -> None:
    """A run that goes on with another program, which is allowed to diverge, keeps what it drops too."""
    copy = Copy()
    await finish(steps, copy, sequential.Database())
    for chunks in copy.logs(2, seed):
        log = log_of(chunks)[0]
        log.header.arguments = msgspec.Raw(msgspec.json.encode({"steps": others, "closed": False}))
        log.header.status = "running"
        diverged = Copy([_whole(log)])
        with suppress(DeploymentError):
            await finish(others, diverged, sequential.Database(), allow_divergence=True)
        if diverged.left:
            assert log_of(diverged.left[-1])[0].to_json()


def _whole(log: Log) -> bytes:
    return msgspec.json.encode([0, log.entries, [], log.header, log.dropped])


# -- programs with many strands --------------------------------------------------------------------------------------


async def drive(
    comp: Computation[Any], world: World, copy: Copy, *, cancel_at: int | None = None, **options: Any
) -> Outcome[Any]:
    """Run *comp*, or go on with what *copy* has, to its end, in an order that the world's chance gives."""
    options |= {"log": log_of(copy.chunks)[0]} if copy.chunks else {"id": scheduler.RUN, "seed": "seed"}
    session = open_session(comp, *world.handlers, observe=[copy.take], **options)
    copy.of(session)
    found: Outcome[Any] | None = None
    async with session, anyio.create_task_group() as group:
        world.log = session.log
        while found is None or isinstance(found, Suspended):
            await scheduler.all_wait()
            copy.rests = not world.pending
            copy.take()
            copy.rests = False
            if cancel_at is not None and world.moves >= cancel_at:
                cancel_at = None
                group.start_soon(session.cancel, "enough")
                continue
            moves = [*world.ends(), *world.passes(), *scheduler.answers(session)]
            if moves:
                await world.move(moves)
            else:
                found = await scheduler._outcome(session, world)
        copy.take()
    assert found is not None
    return found


@each(20)
@given(concurrent.wild, test_random_tasks.seeds, st.booleans(), st.none() | st.integers(0, 9))
async def test_any_concurrent_program(
    steps: list[concurrent.Step], seed: int, prune: bool, cancel_at: int | None
) -> None:
    """Whatever ends first, with branches pruned or not, cancelled or not: at every change the chunks are the log."""
    copy, options = Copy(), {"prune_branches": prune}
    await drive(concurrent.program(steps), World(seed), copy, cancel_at=cancel_at, **options)
    for chunks in copy.logs(2, seed):
        log = log_of(chunks)[0]
        world = World(seed, _latest(log))
        await drive(concurrent.program(steps), world, Copy(chunks), **options)
        settled = {f"{scheduler.RUN}/{entry.id}" for entry in log.entries if entry.state != "started"}
        assert settled.isdisjoint(world.calls)


def _latest(log: Log) -> Any:
    """The time at which all that the log says was over is over."""
    over = [entry for entry in log.entries if entry.state == "executed"]
    dues = [entry.deadline for entry in over if entry.deadline is not msgspec.UNSET]
    return max(dues, default=None)


FORKS = test_random_tasks.Loop(
    [test_random_tasks.Call(1), test_random_tasks.Ask("a")], [test_random_tasks.Call(2), test_random_tasks.Add(1)], 3
)


@each(20)
@given(test_random_tasks.wild, test_random_tasks.seeds)
@example([FORKS], 1)
async def test_any_program_with_tasks(steps: list[test_random_tasks.Step], seed: int) -> None:
    """The same of tasks in the background, and of loops that start them."""
    copy = Copy()
    await drive(test_random_tasks.program(steps), test_random_tasks.TaskWorld(seed), copy)
    for chunks in copy.logs(2, seed):
        log = log_of(chunks)[0]
        world = test_random_tasks.TaskWorld(seed, _latest(log))
        await drive(test_random_tasks.program(steps), world, Copy(chunks))
        settled = {f"{scheduler.RUN}/{entry.id}" for entry in log.entries if entry.state != "started"}
        assert settled.isdisjoint(world.calls)


# -- how much is written ---------------------------------------------------------------------------------------------


class Turn(Yield[str], frozen=True):
    number: int


@computation
async def conversation(turns: int) -> Effectful[int]:
    turn = 0
    while turn < turns:
        turn = yield mark_loop("conversation", int, carry=turn)
        yield Turn(turn)
        yield Clock.now()
        turn += 1
    yield Return(turn)


async def rest_by_rest(session: Session[Any], go_on: Callable[[], Awaitable[None]]) -> tuple[Copy, list[int]]:
    """Run *session* to its end, with a chunk wherever it stands still; how many bytes are stored after each."""
    copy, sizes = Copy(), list[int]()
    copy.of(session)
    session._tell = lambda: None
    copy.rests = True
    async with session:
        while isinstance(await session.outcome(), Suspended):
            copy.take()
            sizes.append(sum(map(len, copy.chunks)))
            await go_on()
        copy.take()
    return copy, sizes


async def test_a_loop_that_prunes_keeps_what_one_turn_needs() -> None:
    """What is stored does not grow with the turns, though the whole is not written in every turn."""
    session = open_session(conversation(200), VirtualClock().handler(), id="run", seed="seed")
    copy, sizes = await rest_by_rest(session, partial(session.answer, "said"))
    assert max(sizes[100:]) <= 1.2 * max(sizes[16:40])  # the last 16 answers are remembered
    assert copy.wholes < 100
    assert log_of(copy.chunks)[0].header.status == "completed"


@computation
async def sleeps(times: int) -> Effectful[None]:
    for _ in range(times):
        yield Clock.sleep(timedelta(minutes=1))


async def test_what_does_not_prune_grows_by_what_is_new() -> None:
    """A log that grows is written again seldom: all that was ever written is a few times as long as the log."""
    clock = VirtualClock()

    async def pass_by() -> None:
        clock.advance(timedelta(minutes=1))

    written = dict[int, int]()
    for times in (100, 400):
        copy, _ = await rest_by_rest(open_session(sleeps(times), clock.handler(), id="run", seed="seed"), pass_by)
        assert copy.written <= 8 * len(log_of(copy.chunks)[0].to_json())
        written[times] = copy.written
    assert written[400] <= 6 * written[100]


# -- damage ----------------------------------------------------------------------------------------------------------


DAMAGED: list[list[bytes]] = [
    [],
    [b""],
    [b"{}"],
    [b"[]"],
    [b"[0]"],
    [b"[3,[]]"],
    [b"[0,[],[[7,{}]]]"],
    [b"[-1,[]]"],
    [b"[0,[],[],null,null]"],
    [b"[" * 100_000],
    [b"\xff"],
]


@pytest.mark.parametrize("chunks", DAMAGED, ids=lambda chunks: repr(cast("list[bytes]", chunks))[:30])
def test_what_is_no_log_is_an_error(chunks: list[bytes]) -> None:
    """Nothing but `LogDecodeError` comes of chunks that nobody wrote."""
    with pytest.raises(LogDecodeError):
        log_of(chunks)


async def test_a_chunk_that_is_missing_or_cut_is_found() -> None:
    """Where one is gone whose entries others build on, or any is cut short, the log is not read as another one."""
    copy = Copy()
    await finish([sequential.Call(1), sequential.Call(2), sequential.Call(3)], copy, sequential.Database())
    assert len(copy.chunks) > 2
    with pytest.raises(LogDecodeError, match="chunk 2"):
        log_of([copy.chunks[0], *copy.chunks[2:]])
    for place, chunk in enumerate(copy.chunks):
        with pytest.raises(LogDecodeError):
            log_of([*copy.chunks[:place], chunk[:-1], *copy.chunks[place + 1 :]])
