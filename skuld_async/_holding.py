"""How an activation ends that has tasks in the background: after them."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from ._errors import TaskCancelledError
from ._signals import Fault, Signal, Suspend, TaskFailed
from ._strand import stopped

if TYPE_CHECKING:
    from ._frames import Frame


async def hold(frame: Frame) -> None:
    """Wait for the tasks of *frame*, which returns; raises the signal that stops it, for one that failed too."""
    strand = frame.strand
    for task in [one for one in strand.tasks if one.frame is frame]:
        await task.wait(frame)
        signal = stopped(frame)
        if signal is not None:
            raise signal.with_traceback(None)
        if task.error is not None:
            failed = TaskFailed(task)
            strand.stop(failed)
            raise failed
        with suppress(TaskCancelledError):
            await task.join(frame)


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
    with anyio.CancelScope(shield=True):
        for task in own:
            if isinstance(strand.sticky, Fault):
                task.interrupt(Suspend())
            if not isinstance(strand.sticky, (Suspend, Fault)):
                await task.stop(frame)
            while not task.has_ended:
                await task.wait(frame)
    strand.tasks[:] = [one for one in strand.tasks if one not in own]
    errors = [task.error for task in own if task.error is not None]
    signal = strand.sticky
    if isinstance(signal, TaskFailed) and signal.task.frame is frame:
        strand.sticky = None
        for task in strand.tasks:
            if task.error is not None:  # of an activation further out
                strand.fail(TaskFailed(task))
        if isinstance(error, (TaskFailed, anyio.get_cancelled_exc_class())):
            error = None
    if error is not None and (isinstance(error, Signal) or not errors):
        return error
    if error is not None and error not in errors:
        errors = [error, *errors]
    return errors[0] if len(errors) == 1 else BaseExceptionGroup(f"{len(errors)} tasks failed", errors)


async def end(frame: Frame, error: BaseException | None = None) -> None:
    """As `release`; raises what is to be raised."""
    error = await release(frame, error)
    if error is not None:
        try:
            raise error
        finally:
            del error
