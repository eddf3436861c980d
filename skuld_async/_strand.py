"""Strands: the concurrently running lines of one run, and how each of them is stopped."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import msgspec

from ._computation import grace_ends
from ._context import task_lookup
from ._effect import Effect, label_of
from ._frames import Frame, strip
from ._misuse import DeadlockError, EndlessUnwindError, OutsideStrandError
from ._signals import Fault, RunCancel, Signal, Suspend, TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio import CancelScope
    from anyio.abc import TaskGroup

    from ._tasks import Task

REFUSALS = 1000
"""Refused requests after which a body that catches each refusal is abandoned."""

_EAGER_TASKS = sys.version_info >= (3, 12)


class CurrentCall(msgspec.Struct, frozen=True):
    """What a handler may know of the request it serves."""

    key: str
    """The idempotency key: the same for each attempt at this request, shared with no other."""
    attempt: int = 1
    """Counted from 1; more only where a `Retry` says that it is tried again."""
    deadline: float | None = None
    """When this attempt is cancelled, in seconds since the epoch; None where its `Retry` gives it no ``timeout``."""


class Crew:
    """All strands of one run.

    Args:
        still: Called whenever no strand can move: each waits for what comes from outside, or for one that does.
        linger: Seconds that a strand which waits for a time still counts as moving.
    """

    def __init__(self, still: Callable[[], None] | None = None, linger: float = math.inf) -> None:
        self.group: TaskGroup | None = None
        """Holds the strands in the background; opened before the first step."""
        self.moving = 1
        """How many strands can move."""
        self.outside = 0
        """How many wait for an answer or a time."""
        self.has_suspended = False
        """Whether a strand has ended that goes on in another session."""
        self.blocked: dict[object, str] = {}
        """What waits for another strand that may never come to it, as messages show it."""
        self.fault: Fault | None = None
        """The first fault of a strand beside the root."""
        self.root: Strand | None = None
        self.is_shielded = False
        """Whether the strands are out of the reach of whoever cancels the caller."""
        self.still = still or self.check
        self.moves: Callable[[], None] = _nothing
        """Called when a strand can move again, where none could."""
        self.linger = linger
        self.new_scope = type(anyio.CancelScope())
        """The backend's own cancel scope: to ask which backend runs takes as long as the scope itself."""

    def rest(self, *, outside: bool = False) -> None:
        """A strand cannot move; whether it waits for what comes from *outside*, or for another strand."""
        self.moving -= 1
        self.outside += outside
        if self.moving == 0:
            self.still()

    def go(self, *, outside: bool = False) -> None:
        """A strand can move, or there is one more."""
        self.moving += 1
        self.outside -= outside
        if self.moving == 1:
            self.moves()

    def check(self) -> None:
        """No strand can move: a fault, if nothing that could come from outside changes that."""
        if not self.outside and not self.has_suspended and self.blocked:
            self.report(Fault(DeadlockError(list(self.blocked.values()))))

    def report(self, fault: Fault) -> None:
        """A strand met *fault*: none of them goes on."""
        if self.fault is None:
            self.fault = fault
            if self.root is not None:
                self.root.interrupt(Suspend())


class Waiting(Protocol):
    """What a strand waits for that is no call: an answer, a time, other strands."""

    def interrupt(self, signal: Signal, /) -> None:
        """Let *signal* end it."""

    def strands(self) -> Sequence[Strand]:
        """The strands that it waits for."""
        ...

    @property
    def gives_way(self) -> bool:
        """Whether a failed task may end it; what a log has settled goes on to its end."""
        ...


class Strand:
    """One running line of a computation: its stack, and the signal that stopped it."""

    __slots__ = (
        "body",
        "crew",
        "current_task",
        "guarded",
        "hooks",
        "in_flight",
        "interrupted",
        "opened_in",
        "parent",
        "path",
        "refused",
        "run",
        "running",
        "seed",
        "stack",
        "sticky",
        "task",
        "tasks",
        "waiting",
    )

    def __init__(self, run: str, seed: str, path: str = "0", parent: Strand | None = None) -> None:
        self.run = run
        self.seed = seed
        self.path = path
        self.parent = parent
        """The strand that opened this one."""
        self.opened_in: Frame | None = None
        """The frame of that strand which waits for this one, now or at its end."""
        self.stack: list[Frame] = []
        self.sticky: Signal | None = None
        self.refused: list[str] = []
        """Requests refused under a run cancel, as ``effect at file:line``."""
        self.in_flight: CancelScope | None = None
        """Around the innermost external call that is out, where a log tells apart who cancels it."""
        self.tasks: list[Task[Any]] = []
        """In the background of its activations, until they are joined."""
        self.waiting: Waiting | None = None
        """What it waits for."""
        self.body: CancelScope | None = None
        """Around the whole of it."""
        self.interrupted: Callable[[], None] | None = None
        """Called when it is interrupted."""
        self.running = True
        self.guarded = _EAGER_TASKS
        if parent is None:
            self.crew = Crew()
            self.hooks = sys.get_asyncgen_hooks()
            self.current_task = task_lookup()
            self.task = self.current_task()
        else:
            self.crew, self.hooks, self.current_task = parent.crew, parent.hooks, parent.current_task
            self.task = None  # it has still to be started

    def stop(self, signal: Signal) -> None:
        """Let *signal* stop this strand, unless one of its rank or above already does."""
        if self.sticky is None or signal.rank > self.sticky.rank:
            self.sticky = signal

    def interrupt(self, signal: Signal) -> None:
        """Let *signal* reach this strand: at its wait, in its call, or wherever its body is."""
        self.stop(signal)
        for task in tuple(self.tasks):
            task.interrupt(signal)
        if self.interrupted is not None:
            self.interrupted()
        body = self.body
        if body is not None and isinstance(signal, Suspend):  # what the body holds is let go of, but not for ever
            body.deadline = grace_ends()
        if self.waiting is not None:
            self.waiting.interrupt(signal)
        elif body is not None and isinstance(signal, RunCancel) and self.stack and self.stack[-1].shielded:
            body.deadline = grace_ends()
        elif self.in_flight is not None:
            self.in_flight.cancel()
        elif body is not None:
            body.cancel()

    def fail(self, signal: TaskFailed) -> None:
        """A task has failed: the activation that forked it is stopped where it waits, or else at its next request."""
        self.stop(signal)
        if self.stack and self.stack[-1].shielded:
            return  # cleanup comes to its end
        if self.waiting is not None:
            if self.waiting.gives_way:
                self.waiting.interrupt(signal)
        elif self.in_flight is not None:
            self.in_flight.cancel()

    def kept_waiting(self) -> list[Frame]:
        """The frames, of this strand and of those around it, that cannot end before this strand has."""
        frames = list(reversed(self.stack))
        strand = self
        while strand.parent is not None and strand.opened_in is not None:
            opened, strand = strand.opened_in, strand.parent
            frames += [opened, *reversed(strand.stack[: _place_of(opened, strand.stack)])]
        return frames

    def refuse_other_tasks(self, request: str) -> None:
        """Refuse *request* unless it is awaited in the strand's own task.

        Another task runs while the strand is not stepped; only an eager one runs within a step.
        """
        if not self.running or (self.guarded and self.current_task() is not self.task):
            fault = Fault(OutsideStrandError(request, inside=True))
            self.stop(fault)
            raise fault

    def unwound(self, error: BaseException) -> BaseException:
        """*error* as it leaves a body."""
        if isinstance(error, Signal):
            self.stop(error)
        return strip(error)

    def call(self) -> CurrentCall:
        """The request that is being served."""
        place = self.stack[-1].place
        attempt, deadline = place.attempt or (1, None)
        return CurrentCall(f"{self.run}/{place.current_id}", attempt, deadline)

    def check(self, frame: Frame, item: Any) -> None:
        """Raise the signal that stopped this strand, unless *frame* is cleanup under a run cancel."""
        signal = self.sticky
        if signal is None:
            return
        if isinstance(signal, RunCancel):
            if frame.shielded or frame.internal:
                return
            if not isinstance(signal, TaskFailed):
                self.refused.append(f"{label_of_item(item)} at {frame.line()}")
        frame.refusals += 1
        if frame.refusals > REFUSALS:
            self.sticky = signal = Fault(EndlessUnwindError(frame.name, frame.line()))
        raise signal.with_traceback(None)

    def thrown(self, error: BaseException, frame: Frame, item: Any) -> BaseException:
        """*error* as it is thrown in at the request *item*."""
        if isinstance(error, Signal):
            self.stop(error)
        elif isinstance(error, Exception) and isinstance(item, Effect):
            note = f"in {frame.name}, at {label_of_item(item)} (entry {frame.place.current_id})"
            if note not in getattr(error, "__notes__", ()):
                object.__setattr__(error, "__notes__", [*getattr(error, "__notes__", ()), note])
        frame.place.serving = frame.place.nested = None
        return strip(error)


def _nothing() -> None:
    """Nobody wants to know."""


def _place_of(frame: Frame, stack: Sequence[Frame]) -> int:
    """Where in *stack* the pump runs that *frame* belongs to."""
    for place, one in enumerate(stack):
        caller: Frame | None = one
        while caller is not None and caller is not frame:
            caller = caller.parent
        if caller is frame:
            return place
    return len(stack)


def stopped(frame: Frame) -> Signal | None:
    """The signal that stopped the strand of *frame*; None in cleanup, which a run cancel does not stop."""
    signal = frame.strand.sticky
    return None if frame.shielded and isinstance(signal, RunCancel) else signal


def label_of_item(item: Any) -> str:
    """What was yielded, as messages show it."""
    if isinstance(item, Effect):
        return label_of(type(item))  # pyright: ignore[reportUnknownArgumentType] - of whatever answer
    name = getattr(item, "name", None)
    return name if isinstance(name, str) else type(item).__name__
