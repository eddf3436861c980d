"""Which strand is running: the one ambient fact, so that an effect awaited elsewhere can be refused."""

from __future__ import annotations

import math
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

import anyio

if TYPE_CHECKING:
    from collections.abc import Callable


class StrandLike(Protocol):
    """What code below the pump may ask of the running strand."""

    running: bool
    guarded: bool

    def refuse_other_tasks(self, request: str, /) -> None: ...

    def call(self) -> Any: ...


current_strand: ContextVar[StrandLike | None] = ContextVar("current_strand", default=None)


def task_lookup() -> Callable[[], object]:
    """The running backend's own ``current_task``."""
    import asyncio  # noqa: PLC0415 - anyio imports its backend late too

    try:
        if asyncio.current_task() is not None:
            return asyncio.current_task
    except RuntimeError:
        pass
    import trio  # noqa: PLC0415 - only where trio runs

    return trio.lowlevel.current_task


def is_cancelled() -> bool:
    """Whether a scope, or an asyncio timeout, around the running task was cancelled; else a cancellation is astray."""
    if anyio.current_effective_deadline() == -math.inf:
        return True
    cancelling = getattr(task_lookup()(), "cancelling", None)
    return cancelling is None or cancelling() > 0
