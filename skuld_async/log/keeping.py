"""Keeping: what a session does with its log while it grows, where somebody stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .entry import Entry


class Keeper(Protocol):
    """Stores the log of a session, outside of this process, as it grows.

    Both methods raise the signal that stops the strand where the log can no longer be kept: another worker has the run.
    """

    async def before_call(self, *, started: bool) -> None:
        """An external call follows: keep what would not come out the same again if this process died in it.

        Args:
            started: Whether that includes the entry of the call: it must not be made twice, whatever happens.
        """
        ...

    async def settled(self, entry: Entry) -> None:
        """The external effect of *entry* was settled: come back when the log is kept, up to there at least."""
        ...
