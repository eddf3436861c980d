"""The options that all verbs share."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from skuld_async._effect import Interceptor, Observation

    from .log import Log


LINGER = timedelta(seconds=1)


class Options(TypedDict, total=False):
    """Keyword options of `start`, `resume`, `replay`, `rerun` and `open_session`."""

    intercept: Sequence[Interceptor]
    """Called around each handler, the first outermost: live calls only."""
    observe: Sequence[Callable[[Observation], None]]
    """Called once for each settled request, replayed or live; must not raise."""
    effects: Sequence[Any]
    """The families of local and recorded effects that are logged, as ``[State, Clock]``; all if it is left out.

    What is not logged is performed live on each replay. External and control effects are always logged."""
    prune_loops: bool
    """Whether `mark_loop` removes earlier iterations; True if it is left out."""
    prune_branches: bool
    """Whether the entries of branches are removed once all have ended: the entry of the concurrent effect then holds
    what they returned and told; False if it is left out."""
    state_keys: Collection[str]
    """Labels of the cells that marks keep, as ``["State[cart]"]``; all if it is left out."""
    linger: timedelta
    """For how long `start` and `resume` wait for a sleep or a timeout before they suspend; a second if left out."""
    into: Log
    """An empty log that the session writes to: a caller that is cancelled still holds it."""
