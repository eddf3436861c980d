"""with_timeout: a computation that has a time of its own, kept in the log."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from typing_extensions import TypeVar, override

from skuld_async._branch import Branch, branch_of, name_in_log
from skuld_async._branches import Team
from skuld_async._clock import TimedOut
from skuld_async._computation import Wrapped
from skuld_async._errors import DeclarationError
from skuld_async._hop import hop
from skuld_async._opening import Opening

if TYPE_CHECKING:
    from skuld_async._computation import Computation
    from skuld_async._effect import Effect
    from skuld_async._frames import Frame

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class OpenTimed(Opening, frozen=True):
    """Effect with which `with_timeout` opens its branch."""

    __sig__ = "with_timeout"
    __label__ = "with_timeout"
    computation: str


class _Timed(Wrapped[T_co | TimedOut], frozen=True, eq=False):
    branch: Branch
    after: timedelta

    @property
    def name(self) -> str:
        return self.branch.computation.name

    @override
    async def enter(self, frame: Frame) -> T_co | TimedOut:
        team: Team = await hop(OpenTimed(name_in_log(self.branch.computation)))
        branch = Branch(self.branch.name, self.branch.computation)
        due = await team.due_after(self.after)
        await team.run([branch], limit=1, due=due)
        if team.timed_out:
            return TimedOut(due)
        value: T_co = branch.value
        return value


def with_timeout(comp: Computation[T] | Effect[T], after: timedelta) -> Computation[T | TimedOut]:
    """Run *comp* until it returns, or until the time *after* has passed: then it is stopped, and `TimedOut` is given.

    The moment is fixed at the first arrival and kept in the log: a restart does not begin the time anew. What *comp*
    did to State and told is kept where it returns; where its time is over, State is what it was before. Its brackets
    and `ensure` do their cleanup.

    Args:
        comp: A computation or an effect.
        after: The time that it has; no part of what a replay compares.

    Raises:
        DeclarationError: Something else was given.

    Gotchas:
        What it did outside stays done, and a call that was cut off may have happened.
    """
    if not isinstance(after, timedelta):  # pyright: ignore[reportUnnecessaryIsInstance] - not everybody has a type checker
        raise DeclarationError(f"with_timeout(..., {after!r:.40})", "this is no time span", "give a timedelta")
    return _Timed(branch_of("1", comp, "with_timeout"), after)
