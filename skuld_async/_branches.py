"""Branches: several strands that one strand opens and waits for.

The rules, kept in `Team`:

1. Each branch is a strand: a task of its own, in a task group that the waiting strand holds open meanwhile.
2. Branches start in their order, and are told apart by name: nothing depends on who is faster but what is decided.
3. What is decided (a winner, an error, a timeout) is decided once, and told to a log before any branch is stopped.
4. A branch that is stopped still does its cleanup, and is waited for.
5. Each branch works on its own copy of the state; what is gathered is added in the order of the branches at the end.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

import anyio
from typing_extensions import TypeVar

from ._branch import Branch
from ._chain import Pending
from ._clock import Timer, due_in
from ._signals import Fault, RunCancel, Signal, Suspend, TaskFailed
from ._strand import Strand, stopped

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from anyio.abc import TaskGroup

    from ._frames import Frame

T_co = TypeVar("T_co", covariant=True)

POLL = 0.001
"""Seconds between two looks at a replay that a decision waits for."""


class Team(Pending):
    """The branches of one concurrent effect; a log has one of its own, which overrides what is below "for a log"."""

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame
        """Of the computation that waits for the branches."""
        self.id = frame.place.current_id
        self.failed: list[Branch] = []
        """Those whose errors count."""
        self.won: Branch | None = None
        self.timed_out = False
        self.decided = False
        """Whether the branches that still run are stopped."""
        self._live: dict[Branch, None] = {}
        self._begun: dict[Branch, None] = {}
        self._todo: deque[Branch] = deque()
        self._limit: float = 0
        self._first = self._settle = False
        self._filling = self._deciding = self._giving_way = False
        self._suspended = False
        self._cut = False
        """Whether a branch was stopped, though not from here."""
        self._due: datetime | None = None
        self._timer: Timer | None = None
        self._ended: Callable[[], None] | None = None
        """Called at the end of what runs in the background."""
        self._group: TaskGroup
        self._order: Sequence[Branch] = ()

    async def run(
        self,
        branches: Sequence[Branch],
        *,
        limit: float,
        first: bool = False,
        settle: bool = False,
        due: datetime | None = None,
    ) -> None:
        """Run *branches* to their ends.

        Args:
            branches: In their order.
            limit: How many may run at the same time.
            first: The first one that returns stops the others.
            settle: Their errors stop nothing.
            due: When they are stopped all the same.

        Raises:
            BaseException: The error of a branch, an `ExceptionGroup` of several, or the signal that stopped the strand.
        """
        self._order = branches
        self._limit, self._first, self._settle, self._due = limit, first, settle, due
        self.check_names([branch.name for branch in branches])
        self._todo.extend(branch for branch in branches if self.has_to_run(branch))
        try:
            if self._todo:
                await self._run(due)
            error = self.error()
        except BaseException as raised:
            error = raised
        if error is not None:
            error = self.ended_with(error)
            self.settled(None, error)
            try:
                raise error
            finally:
                del error
        counts = [one for one in branches if one.has_returned and (not first or one is self.won)]
        self.collect([] if self.timed_out else counts)
        self.ended()
        self.settled(None, None)

    async def _run(self, due: datetime | None) -> None:
        strand = self.frame.strand
        self._timer = timer = Timer(self.frame, due if self.is_open() else None)
        strand.waiting = self
        try:
            async with anyio.create_task_group() as self._group:
                self._fill()
                failed = next((task for task in strand.tasks if task.error is not None), None)
                if failed is not None and self.gives_way and strand.sticky is None and not self.frame.shielded:
                    strand.stop(TaskFailed(failed))
                    self.interrupt(TaskFailed(failed))
                if self._live:
                    await self.wait()
                if timer.is_due and self._live:
                    self.time_out()
            if isinstance(strand.sticky, RunCancel):  # whoever cancelled the run is told what that refused
                strand.refused += [
                    one for branch in self._order if branch in self._begun for one in branch.strand.refused
                ]
        finally:
            strand.waiting = None

    def time_out(self) -> None:
        """The time is over."""
        if not self.decided and not self._suspended:
            self.timed_out = True
            self._decide()

    def error(self) -> BaseException | None:
        """What the strand has to raise."""
        signal = stopped(self.frame)
        if signal is not None:
            return signal.with_traceback(None)
        if self._suspended:
            return Suspend()
        if self.failed and not self._settle:
            failed = (branch for branch in self._order if branch in self.failed)
            errors = [branch.error for branch in failed if branch.error is not None]
            if len(errors) == 1:
                return errors[0]
            return BaseExceptionGroup(f"{len(errors)} branches failed", errors)
        return RunCancel() if self._cut else None

    # -- the branches ------------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Start branches as far as the limit allows it."""
        if self._filling:
            return  # an eager task has ended while it was started
        self._filling = True
        signal = stopped(self.frame)
        if isinstance(signal, RunCancel) and not self.decided:  # what was under way has its cleanup to do
            self._todo = deque(branch for branch in self._todo if self.is_owed(branch))
        elif signal is not None and not self.decided:
            self._todo.clear()
        while self._todo and len(self._live) < self._limit:
            branch = self._todo.popleft()
            self._begin(branch)
            self._group.start_soon(self._serve, branch)
        self._filling = False

    def _begin(self, branch: Branch) -> None:
        self.enlist(branch)
        branch.strand.opened_in = self.frame
        self._live[branch] = self._begun[branch] = None
        self.frame.strand.crew.go()

    def start(self, branch: Branch, ended: Callable[[], None]) -> None:
        """Run *branch* in the background of the run; *ended* is called at its end."""
        crew = self.frame.strand.crew
        assert crew.group is not None
        self._order, self._settle, self._ended = [branch], True, ended
        self._begin(branch)
        for scope in branch.scope.outwards():
            scope.whole()  # whoever forks it goes on, and changes what would be copied
        crew.group.start_soon(self._serve_in_background, branch)

    def stop(self) -> None:
        """Stop what runs."""
        if not self.decided:
            self._decide()

    @property
    def stopped_for(self) -> str | None:
        """Id of the failed task for whose sake it was stopped."""
        return None

    @property
    def is_suspended(self) -> bool:
        """Whether a branch cannot go on in this session."""
        return self._suspended

    async def _serve_in_background(self, branch: Branch) -> None:
        with anyio.CancelScope(shield=self.frame.strand.crew.is_shielded):
            await self._serve(branch)

    async def _serve(self, branch: Branch) -> None:
        try:
            if branch.strand.sticky is None or not self.decided:  # else it never began
                await branch.run(shielded=self.frame.shielded)
        finally:
            del self._live[branch]
            self._note(branch)
            for scope in branch.scope.outwards():
                scope.close()
            self._fill()
            # Who waits can move before the last branch no longer can.
            if self._ended is not None:
                self._settle_task(branch)
                self._ended()
                self._ended = None
            elif not self._live and self._timer is not None:
                self._timer.wake()
            self.frame.strand.crew.rest()

    def _settle_task(self, branch: Branch) -> None:
        if branch.has_returned:
            self.ended()
        elif self._suspended:
            self.ended_with(Suspend())
        elif self.failed:
            self.decide([])
            self.failed[0].error = self.ended_with(self.failed[0].error or RunCancel())
        else:
            self.ended_with(RunCancel())

    def _note(self, branch: Branch) -> None:
        """What the end of *branch* means for the others."""
        signal = branch.strand.sticky
        fault = self.left(branch)
        if fault is None and isinstance(signal, Fault):
            fault = signal
        if fault is not None:
            branch.strand.crew.report(fault)
            self._suspended = True
        elif isinstance(signal, Suspend):
            self._suspended = branch.strand.crew.has_suspended = True
        elif branch.error is not None and not isinstance(branch.error, Signal):
            self.failed.append(branch)
            if not self._settle:
                self._decide()
        elif isinstance(signal, RunCancel) and not branch.has_returned:
            self._cut = not self.decided or self._cut
        elif branch.has_returned and self._first and self.won is None and self.may_win(branch):
            self.won = branch
            self._decide()

    def _decide(self) -> None:
        """The branches that still run are stopped."""
        if self._suspended:
            self.failed.clear()
            self.won = None
            return  # what cannot go on now would be stopped as well: that is left to the next resume
        if stopped(self.frame) is not None:
            return  # with all its branches, each at its place
        self._todo = deque(branch for branch in self._todo if self.is_owed(branch))
        if self.is_early():
            self._limit = math.inf
            self._fill()
            if not self._deciding:
                self._deciding = True
                self._later(self._decide)
            return
        self.decide([place for branch in self._live for place in self.places(branch.strand)])
        if not self.decided:
            self.decided = True
            for branch in list(self._live):
                branch.strand.interrupt(RunCancel())

    def _later(self, act: Callable[[], None]) -> None:
        """Call *act* when all branches have come to the end of their logs: what is logged comes first."""

        async def wait() -> None:
            try:
                while self._live and self.is_early():  # noqa: ASYNC110 - the end of a replay is no event
                    await anyio.sleep(POLL)
                act()
            finally:
                self.frame.strand.crew.rest()

        self.frame.strand.crew.go()
        self._group.start_soon(wait)

    def _interrupt_later(self, signal: TaskFailed) -> None:
        if not self._giving_way:
            self._giving_way, self._limit = True, math.inf
            self._fill()
            self._later(lambda: self.interrupt(signal))

    # -- for whoever stops the strand --------------------------------------------------------------------------------

    def interrupt(self, signal: Signal) -> None:
        """Let *signal* reach all branches."""
        if isinstance(signal, TaskFailed):
            if not self.decided and not self.frame.shielded and self.is_early():
                self._interrupt_later(signal)
                return
            self.give_way(signal)
            signal = RunCancel()
        if not self.frame.shielded or not isinstance(signal, RunCancel):
            self._todo.clear()
        for branch in list(self._live):
            branch.strand.interrupt(signal)

    def strands(self) -> list[Strand]:
        """Those that run."""
        return [branch.strand for branch in self._live]

    @property
    def gives_way(self) -> bool:
        """Whether a failed task may end it."""
        return True

    async def due_after(self, after: timedelta) -> datetime:
        """When the time *after* is over, counted from the first arrival."""
        return await due_in(self.frame, after)

    async def wait(self) -> None:
        """Wait until all branches have ended, or the time is over."""
        assert self._timer is not None
        await self._timer.wait()

    # -- for a log ---------------------------------------------------------------------------------------------------

    def enlist(self, branch: Branch) -> None:
        """Give *branch* its strand and its scope."""
        outer = self.frame.strand
        branch.strand = Strand(outer.run, outer.seed, f"{self.id}.{branch.name}", outer)
        branch.scope = self.frame.table.scope.fork(self.frame.table.bind)

    def check_names(self, names: Sequence[str]) -> None:
        """Whatever other branches than those of *names* have logged is a divergence."""

    def has_to_run(self, branch: Branch) -> bool:  # noqa: ARG002 - a log knows those that are over
        """Whether *branch* is to be run at all."""
        return True

    def may_win(self, branch: Branch) -> bool:  # noqa: ARG002
        """Whether nothing speaks against *branch* as the winner."""
        return True

    def is_open(self) -> bool:
        """Whether it is still to be decided if the time is over first."""
        return True

    @property
    def is_settled(self) -> bool:
        """Whether the log says how it has ended."""
        return False

    def is_early(self) -> bool:
        """Whether a branch has not come to the end of its log, so that nothing can be decided."""
        return False

    def is_owed(self, branch: Branch) -> bool:  # noqa: ARG002
        """Whether *branch* was under way before, so that its cleanup is owed."""
        return False

    def give_way(self, signal: TaskFailed) -> None:
        """The branches are stopped, because a task of an activation around them failed."""

    def places(self, strand: Strand) -> list[str]:  # noqa: ARG002
        """Where *strand*, or what it waits for, would be stopped."""
        return []

    def decide(self, places: list[str]) -> None:
        """It is decided who has won or failed; the others are stopped at *places*."""

    def left(self, branch: Branch) -> Fault | None:  # noqa: ARG002
        """*branch* is over; gives what its log finds wrong with that."""
        return None

    def collect(self, returned: Sequence[Branch]) -> None:
        """Take over what the branches that count have left behind."""
        for branch in returned:
            branch.scope.merge(adopt=self._due is not None)

    def ended(self) -> None:
        """All went well."""

    def ended_with(self, error: BaseException) -> BaseException:
        """The strand raises *error*; gives what it raises instead."""
        return error
