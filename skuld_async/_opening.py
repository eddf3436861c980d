"""Openings: the effects that open branches, each answered by their team."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._branches import Team
from ._effect import Effect, Kind

if TYPE_CHECKING:
    from ._frames import Frame


class Opening(Effect[Any], frozen=True):
    """Family of the effects that open branches."""

    __kind__ = Kind.CONTROL
    __answer_form__ = Any

    def answer(self, team: Team) -> Any:
        """What is answered, of the *team* that was made."""
        return team

    def __perform__(self, frame: Frame) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        return self.answer(Team(frame))
