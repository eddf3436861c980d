"""How an activation ends that has tasks in the background: after them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio

from ._errors import TaskCancelledError
from ._signals import Fault, Signal, Suspend, TaskFailed
from ._strand import stopped

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ._frames import Frame
    from ._tasks import Task


def has_tasks(frame: Frame) -> bool:
    """Whether tasks were forked in *frame* that nobody has joined."""
    return any(task.frame is frame for task in frame.strand.tasks)


async def hold(frame: Frame) -> None:
    """Wait for the tasks of *frame*, which returns; raises the signal that stops it, for one that failed too."""
    strand = frame.strand
    own = [one for one in strand.tasks if one.frame is frame]
    await anyio.lowlevel.checkpoint()  # a strand that was stopped here before is stopped here again
    for task in own:
        await task.catch_up()
        if task.is_settled:
            await task.wait(frame)  # it came to its end before anything else happened to this strand
        elif not task.has_ended:
            for other in strand.tasks:
                if other.error is not None:
                    await fail_again(frame, other.id)
            await task.wait(frame, gives_way=True)
        signal = stopped(frame)
        if signal is not None:
            raise signal.with_traceback(None)
        if task.error is not None:
            await fail_again(frame, task.id)
        if task.stopped_for is not None:
            await fail_again(frame, task.stopped_for)
    for task in own:
        with suppress(TaskCancelledError):
            await task.join(frame)


async def fail_again(frame: Frame, task: str) -> None:
    """Stop the strand of *frame* because *task* has failed, once it has."""
    strand = frame.strand
    for one in tuple(strand.tasks):
        if one.id == task:
            while not one.has_ended:
                await one.wait(frame)
            signal = TaskFailed(one)
            strand.stop(signal)
            raise signal


async def release(frame: Frame, error: BaseException | None = None) -> BaseException | None:
    """Stop the tasks of *frame*, which has ended with *error* or without `Return`; gives what it raises instead."""
    strand = frame.strand
    own = [one for one in strand.tasks if one.frame is frame]
    if not own:
        return error
    if error is None:
        try:
            await hold(frame)
        except BaseException as raised:
            error = raised
        else:
            return None
    await _stop(own, frame)
    strand.tasks[:] = [one for one in strand.tasks if one not in own]
    errors = [task.error for task in own if task.error is not None]
    if _goes_on(frame) and isinstance(error, (TaskFailed, anyio.get_cancelled_exc_class())):
        error = None
    if error is not None and (isinstance(error, Signal) or not errors):
        return error
    if error is not None and error not in errors:
        errors = [error, *errors]
    return errors[0] if len(errors) == 1 else BaseExceptionGroup(f"{len(errors)} tasks failed", errors)


async def _stop(tasks: Sequence[Task[Any]], frame: Frame) -> None:
    strand = frame.strand
    with anyio.CancelScope(shield=True):
        await anyio.lowlevel.checkpoint()  # a strand that was stopped here before is stopped here again
        for task in tasks:
            if isinstance(strand.sticky, Fault):
                task.interrupt(Suspend())
            if not isinstance(strand.sticky, (Suspend, Fault)):
                await task.stop_for(strand.sticky, frame)
            while not task.has_ended:
                await task.wait(frame)


def _goes_on(frame: Frame) -> bool:
    """Whether it was a failed task of *frame* that stopped the strand, which goes on outside of it."""
    strand = frame.strand
    signal = strand.sticky
    if not isinstance(signal, TaskFailed) or signal.task.frame is not frame:
        return False
    strand.sticky = None
    for task in strand.tasks:
        if task.error is not None:  # of an activation further out
            strand.fail(TaskFailed(task))
    return True


async def end(frame: Any, value: Any, error: BaseException | None = None) -> Any:
    """As `release`; gives *value*, or raises what is to be raised."""
    error = await release(frame, error)
    if error is None:
        return value
    try:
        raise error
    finally:
        del error
