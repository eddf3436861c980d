"""Control signals: what stops a strand, whatever its body catches.

They are BaseExceptions and sticky: the first one that a strand meets is raised again at each further request, and the
pump decides the outcome by it. No ``except Exception`` and no ``except BaseException`` turns a divergence into a
charge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ._errors import DeploymentError
    from ._frames import Frame


class TaskLike(Protocol):
    """What is known here of a task."""

    id: str

    @property
    def frame(self) -> Frame:
        """Of the activation that forked it."""
        ...


class Signal(BaseException):
    """Stops a strand. A signal of higher rank replaces a lower one."""

    rank = 0


class RunCancel(Signal):
    """The run, or one of its strands, is cancelled for good: brackets and `ensure` still perform their effects."""


class TaskFailed(RunCancel):
    """A task failed: the activation that forked it is stopped."""

    rank = -1

    def __init__(self, task: TaskLike) -> None:
        super().__init__()
        self.task = task


class Suspend(Signal):
    """The run stops here and goes on later from its log: no effect is performed while it unwinds."""

    rank = 1


class Fault(Signal):
    """The deployment is at fault (no handler, divergence, misuse, undecodable data)."""

    rank = 2

    def __init__(self, error: DeploymentError) -> None:
        super().__init__(error)
        self.error = error
