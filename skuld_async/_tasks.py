"""Tasks: strands in the background of the activation that forked them.

The rules:

1. An activation ends after its tasks: its `Return` is held until they have.
2. An error in a task stops the activation: what it is waiting for is cut short, its cleanup is done, and the error
   comes out of it, to whoever called it.
3. An activation that ends with an error stops its tasks first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic

import anyio
from typing_extensions import TypeVar

from ._branch import Branch
from ._branches import POLL, Team
from ._clock import Timer
from ._errors import TaskCancelledError
from ._signals import RunCancel, Signal, Suspend, TaskFailed
from ._strand import stopped

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._frames import Frame
    from ._strand import Strand

T_co = TypeVar("T_co", covariant=True)


class Task(Generic[T_co]):
    """A computation that runs in the background; made by `fork`.

    Attributes:
        id: Id of the entry that forked it.
    """

    def __init__(self, team: Team, branch: Branch) -> None:
        self.id: str = team.id
        self._team = team
        self._branch = branch
        self._frame = team.frame
        self._ended = False
        self._wake: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"<Task {self.id}: {self.name}>"

    @property
    def name(self) -> str:
        """Of its computation."""
        return self._branch.computation.name

    # -- for the strand that forked it -------------------------------------------------------------------------------

    @property
    def frame(self) -> Frame:
        """Of the activation that forked it."""
        return self._frame

    @property
    def error(self) -> BaseException | None:
        """What it raised."""
        return self._branch.error if self._team.failed else None

    @property
    def has_ended(self) -> bool:
        """Whether it has done all that it will do in this session."""
        return self._ended

    def start(self) -> None:
        """Start it, unless its log says that it is over."""
        self._frame.strand.tasks.append(self)
        if self._team.has_to_run(self._branch):
            self._team.start(self._branch, self._note)
        else:
            self._ended = True

    @property
    def is_settled(self) -> bool:
        """Whether its log says how it ends."""
        return self._team.is_settled

    @property
    def stopped_for(self) -> str | None:
        """Id of the failed task for whose sake it was stopped."""
        return self._team.stopped_for

    @property
    def is_early(self) -> bool:
        """Whether it has not come to the end of its log."""
        return not self._ended and self._team.is_early()

    def _note(self) -> None:
        """It has ended."""
        self._ended = True
        for wake in self._wake:
            wake()
        self._wake.clear()
        if self.error is not None:
            self._frame.strand.fail(TaskFailed(self))

    def interrupt(self, signal: Signal) -> None:
        """Let *signal* reach it; where the strand is stopped as in its log, it stops by its own."""
        if not self._ended and not (isinstance(signal, RunCancel) and self.is_early):
            self._team.interrupt(signal)

    def strands(self) -> list[Strand]:
        """Its strand, while it runs."""
        return self._team.strands()

    async def wait(self, frame: Frame, *, gives_way: bool = False) -> None:
        """Wait for its end in *frame*, or for the signal that stops the strand.

        Args:
            frame: Who waits.
            gives_way: Whether the failure of another task ends that.
        """
        if self._ended:
            return
        timer = Timer(frame, None)
        self._wake.append(timer.wake)
        strand = frame.strand
        strand.waiting = _Join(timer, gives_way=gives_way)
        try:
            await timer.wait()
        finally:
            strand.waiting = None

    async def join(self, frame: Frame) -> T_co:
        """Wait for its value; what it told is added."""
        await self._wait_unless_stopped(frame)
        branch = self._branch
        if branch.has_returned:
            self.merge()
            value: T_co = branch.value
            return value
        if self._team.is_suspended:
            raise Suspend
        if self.error is not None:
            raise self.error  # in cleanup, which its failure does not stop
        self.forget()
        raise TaskCancelledError(self.id, self.name)

    async def stop(self, frame: Frame) -> None:
        """Stop it, and wait until it has done its cleanup."""
        await self.catch_up()
        if self._goes_on:
            self._team.stop()
        await self._wait_unless_stopped(frame)
        if self._branch.has_returned:
            self.merge()
        elif self._ended and not self._team.is_suspended and self.error is None:
            self.forget()

    async def stop_for(self, signal: Signal | None, frame: Frame) -> None:
        """Stop it because its activation ends with an error, or with *signal*; wait until it has done its cleanup."""
        await self.catch_up()
        if self._goes_on:
            if isinstance(signal, TaskFailed):
                self._team.interrupt(signal)
            else:
                self._team.stop()
        await self.wait(frame)

    @property
    def _goes_on(self) -> bool:
        """Whether nothing has stopped it, and its log does not say how it ends."""
        return not self._ended and self._branch.strand.sticky is None and not self.is_settled

    async def catch_up(self) -> None:
        """Wait until it has come to the end of its log."""
        while self.is_early:  # noqa: ASYNC110 - the end of a replay is no event
            await anyio.sleep(POLL)

    async def _wait_unless_stopped(self, frame: Frame) -> None:
        await self.wait(frame, gives_way=not frame.place.replayed)
        if self.error is not None and not frame.shielded:
            frame.strand.stop(TaskFailed(self))
        signal = stopped(frame)
        if signal is not None:
            raise signal.with_traceback(None)

    def merge(self) -> None:
        """Add what it told, once."""
        if self.forget():
            self._branch.scope.merge(adopt=False)

    def forget(self) -> bool:
        """Nobody has to wait for it any more; gives whether somebody had to."""
        tasks = self._frame.strand.tasks
        if self not in tasks:
            return False
        tasks.remove(self)
        return True


class _Join:
    """A strand that waits for a task, which has a signal of its own."""

    def __init__(self, timer: Timer, *, gives_way: bool) -> None:
        self._timer = timer
        self._gives_way = gives_way

    @property
    def gives_way(self) -> bool:
        return self._gives_way and not self._timer.is_over

    def interrupt(self, signal: Signal) -> None:  # noqa: ARG002 - it sticks to the strand
        self._timer.wake()

    def strands(self) -> list[Strand]:
        return []
