"""Outcomes: the four ways in which a session can stand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, Never, Protocol, TypeAlias

import msgspec
from typing_extensions import TypeVar

from skuld_async._errors import RunCancelledError, StillWaitingError

from .divergence import Divergence
from .log import Log, Wait

if TYPE_CHECKING:
    from skuld_async._declared import Declared
    from skuld_async._effect import Effect
    from skuld_async._handler import Handler

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
K_co = TypeVar("K_co", covariant=True)


class _StateKey(Protocol[K_co]):
    @property
    def label(self) -> str: ...
    def get(self) -> Effect[K_co]: ...


class _OutputKey(Protocol[T]):
    @property
    def label(self) -> str: ...
    @property
    def declared(self) -> Declared[list[T]]: ...
    def handler(self) -> Handler: ...


class _Outcome(msgspec.Struct, frozen=True, eq=False, kw_only=True):
    log: Log
    """All that the run did; the run goes on from it."""
    cells: Mapping[str, Any] = {}
    """Handler state of the outermost scope, by label; read it with `state` and `output`."""
    divergence: Divergence = Divergence()
    """What ``allow_divergence=True`` accepted; empty otherwise."""

    def state(self, key: _StateKey[T]) -> T:
        """The value of a `State` of the outermost scope.

        Raises:
            KeyError: That state has no handler in the outermost scope.
        """
        value: T = self._cell(key.label)
        return value

    def output(self, key: _OutputKey[T]) -> list[T]:
        """The events of an `EventAccumulator`, or the notes of a `Writer`, of the outermost scope, oldest first.

        Raises:
            KeyError: That key has no handler in the outermost scope.
        """
        value: list[T] = list(self._cell(key.label))
        return value

    def _cell(self, label: str) -> Any:
        if label not in self.cells:
            message = (
                f"{label} has no handler in the outermost scope (there are: {', '.join(self.cells) or 'none'}); "
                "what an inner scope held is gone with it: let the computation return it"
            )
            raise KeyError(message)
        return self.cells[label]


class Completed(_Outcome, Generic[T_co], frozen=True, eq=False, kw_only=True):
    """The computation returned."""

    value: T_co
    """What it returned, as the log holds it."""


class Suspended(_Outcome, frozen=True, eq=False, kw_only=True):
    """The run waits; `resume` with an answer goes on.

    Without a wait it was stopped on its way, and `resume` goes on without an answer.
    """

    question: Any = None
    """The question of `wait` itself, or None."""
    wait: Wait | None = None
    """The open question as a form or a bot needs it, or None; where several are open, the one of the last entry."""
    waits: tuple[Wait, ...] = ()
    """All open questions."""
    wake_at: datetime | None = None
    """When the next sleep or timeout is over, or None: `resume` then, without an answer."""

    @property
    def value(self) -> Never:
        """There is none yet: raises `StillWaitingError`."""
        detail = "it was stopped on its way; resume(comp, log, *handlers) goes on"
        if self.wait is not None:
            detail = f"it waits at {self.wait.id} for the answer to {self.question!r}"
        elif self.wake_at is not None:
            detail = f"it sleeps until {self.wake_at}; resume(comp, log, *handlers) goes on then"
        raise StillWaitingError(self.log.header.run, detail)


class Failed(_Outcome, frozen=True, eq=False, kw_only=True):
    """The computation raised; `rerun` runs the effect that failed again."""

    error: Exception
    """What it raised."""

    @property
    def value(self) -> Never:
        """There is none: raises `error`."""
        raise self.error


class Cancelled(_Outcome, frozen=True, eq=False, kw_only=True):
    """The run was cancelled for good; its brackets and `ensure` have done their cleanup."""

    reason: str
    """As it was given to `Session.cancel`."""
    refused: tuple[str, ...] = ()
    """Requests that were refused while it unwound, as ``effect at file:line``."""

    @property
    def value(self) -> Never:
        """There is none: raises `RunCancelledError`."""
        raise RunCancelledError(self.log.header.run, self.reason)


Outcome: TypeAlias = Completed[T] | Suspended | Failed | Cancelled
"""How a run stands when `start`, `resume`, `replay` or `rerun` returns; match on its class."""
