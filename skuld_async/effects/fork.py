"""fork, join, cancel: computations in the background of another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from typing_extensions import TypeVar, override

from skuld_async._branch import branch_of, name_in_log
from skuld_async._branches import Team
from skuld_async._effect import Effect, Kind
from skuld_async._misuse import MisuseError
from skuld_async._opening import Opening
from skuld_async._signals import Fault
from skuld_async._tasks import Task

if TYPE_CHECKING:
    from skuld_async._computation import Computation
    from skuld_async._frames import Frame

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Fork(Opening, frozen=True, dict=True):
    """Effect of `fork`."""

    __sig__ = "fork"
    __label__ = "fork"
    computation: str

    @override
    def answer(self, team: Team) -> Task[Any]:
        """Start the task."""
        if team.frame.computation is None:
            message = "a handler forks no tasks; fork them in a computation that it requests"
            raise Fault(MisuseError(message))
        task = Task[Any](team, branch_of("1", self._comp, "fork"))  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType] - set by `fork`
        task.start()
        return task


class TaskEffect(Effect[T_co], frozen=True, dict=True):
    """Family of what is requested of a task."""

    __kind__ = Kind.CONTROL
    __answer_form__: ClassVar[Any] = Any
    task: str

    @property
    def of(self) -> Task[Any]:
        """The task itself."""
        task: Task[Any] = self._task  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType] - set by `_about`
        return task  # pyright: ignore[reportUnknownVariableType]

    def check(self, frame: Frame) -> None:
        """Refuse another strand than the one that forked the task."""
        if self.of.frame.strand is not frame.strand:
            message = f"{self.__sig__}({self.task}) at {frame.line()}: only the strand that forked a task may ask this"
            raise Fault(MisuseError(message))


class Join(TaskEffect[T_co], frozen=True):
    """Effect of `join`."""

    __sig__ = "join"
    __label__ = "join"

    async def __perform__(self, frame: Frame) -> T_co:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        self.check(frame)
        value: T_co = await self.of.join(frame)
        return value


class CancelTask(TaskEffect[None], frozen=True):
    """Effect of `cancel`."""

    __sig__ = "cancel"
    __label__ = "cancel"

    async def __perform__(self, frame: Frame) -> None:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        self.check(frame)
        await self.of.stop(frame)


E = TypeVar("E", bound=TaskEffect[Any])


def fork(comp: Computation[T] | Effect[T]) -> Effect[Task[T]]:
    """Run *comp* in the background; the answer is its `Task`.

        task = yield fork(prefetch(order))
        ...
        page = yield join(task)

    The activation that forked it waits for it: its `Return` is held until all its tasks have ended. An error in a task
    stops the activation, whose cleanup is done, and comes out of it. State in the task is a copy, made now; what it
    tells a `Writer` or emits is added where it is joined, or else at the end of the activation, in the order of forks.

    Args:
        comp: A computation or an effect.

    Gotchas:
        The error of a task cannot be caught in the activation that forked it: catch it in the task, or around a
        computation that holds both.
    """
    branch = branch_of("1", comp, "fork")
    effect = Fork(name_in_log(branch.computation))
    msgspec.structs.force_setattr(effect, "_comp", branch.computation)
    return effect


def join(task: Task[T]) -> Effect[T]:
    """Wait for *task*; the answer is what it returned.

    Raises:
        TaskCancelledError: It was cancelled.
    """
    return _about(Join[T](task.id), task)


def cancel(task: Task[Any]) -> Effect[None]:
    """Stop *task* and wait until its brackets and `ensure` have done their cleanup.

    One that has ended already is not stopped; what it told is added, as `join` does.
    """
    return _about(CancelTask(task.id), task)


def _about(effect: E, task: Task[Any]) -> E:
    msgspec.structs.force_setattr(effect, "_task", task)
    return effect
