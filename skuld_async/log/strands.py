"""Strands of a logged run: each knows its journal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from typing_extensions import override

from skuld_async._effect import Effect
from skuld_async._scopes import Route, Scope
from skuld_async._signals import RunCancel, TaskFailed
from skuld_async._strand import Strand

if TYPE_CHECKING:
    from .journal import Journal

Bind: TypeAlias = Callable[[type[Effect[Any]], Scope], Route]
"""Finds the route of an effect class in a scope, for one strand."""


class LoggedStrand(Strand):
    """A strand with its journal."""

    __slots__ = ("cut_at", "journal")

    def __init__(self, run: str, seed: str, journal: Journal, parent: Strand | None = None) -> None:
        self.journal = journal
        self.cut_at: str | None = None
        """Where it was stopped, where that is in the middle of a request that it now makes."""
        super().__init__(run, seed, journal.path, parent)
        self.interrupted = journal.hurry

    @override
    def fail(self, signal: TaskFailed) -> None:
        waits = self.in_flight is not None if self.waiting is None else self.waiting.gives_way
        if waits and not self.stack[-1].shielded:
            super().fail(signal)
        # else: at its next request that waits, which has an entry to say so

    def stop_again(self) -> None:
        """It was stopped before, and that took effect here."""
        self.journal.cancelled_at = None
        self.interrupt(RunCancel())
