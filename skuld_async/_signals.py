"""Control signals: what stops a strand, whatever its body catches.

They are BaseExceptions and sticky: the first one that a strand meets is raised again at each further request, and the
pump decides the outcome by it. No ``except Exception`` and no ``except BaseException`` turns a divergence into a
charge.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._errors import DeploymentError


class Signal(BaseException):
    """Stops a strand. A signal of higher rank replaces a lower one."""

    rank = 0


class RunCancel(Signal):
    """The run is cancelled for good: brackets and `ensure` still perform their effects."""


class Suspend(Signal):
    """The run stops here and goes on later from its log: no effect is performed while it unwinds."""

    rank = 1


class Fault(Signal):
    """The deployment is at fault (no handler, divergence, misuse, undecodable data)."""

    rank = 2

    def __init__(self, error: DeploymentError) -> None:
        super().__init__(error)
        self.error = error
