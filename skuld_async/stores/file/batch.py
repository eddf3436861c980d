"""Batches: what several tasks want changed, on its way into the files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .folder import Kept, Write
from .lines import line_of
from .state import is_rewritten, parts_between

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from .state import State


class Job:
    """A change that was made in memory, and whose task waits until it is in the files.

    Args:
        run: The run that it is about; None if it finds its runs by itself.
        rest: Gives its result where only a part of it could be written, by what could not; without one it has failed.
    """

    def __init__(self, run: str | None, rest: Callable[[Any, Collection[str]], Any] | None) -> None:
        self._run = run
        self._rest = rest
        self.runs: set[str] = set()
        """Ids of the runs that it has changed."""
        self.result: Any = None
        self.error: Exception | None = None
        self.reply: Any = None
        """What its task waits for."""

    def settle(self, failed: Mapping[str, OSError]) -> None:
        """Wake its task; *failed* are runs that could not be written, whoever had changed them."""
        unwritten = self.runs & failed.keys()
        if self._run is not None and self._run in failed:
            self.error = _copy(failed[self._run])  # also if all it did was to look: it saw what does not count
        elif unwritten:
            self.result = self._rest and self._rest(self.result, unwritten)
            if not self.result:
                self.error = _copy(failed[min(unwritten)])
        if self.reply.done():
            return  # its task was cancelled
        if self.error is None:
            self.reply.set_result(self.result)
        else:
            self.reply.set_exception(self.error)


def _copy(error: OSError) -> OSError:
    """The same for one more task: an error collects the lines of where it is raised."""
    return OSError(error.errno, error.strerror, error.filename)


class Next(NamedTuple):
    """What becomes of a run in a batch."""

    state: State | None
    lines: int
    data: bytes = b""
    """Lines for its file."""
    anew: bool = False

    def write(self, run: str, before: Kept | None) -> Write:
        """What is to be done to its file."""
        return Write(run, before.size if before else 0, self.data, self.anew)

    def kept(self, before: Kept | None) -> Kept | None:
        """What its file then holds."""
        if self.state is None:
            return None
        return Kept(self.state, self.lines, len(self.data) + (before.size if before and not self.anew else 0))


def next_of(before: Next, state: State | None) -> Next:
    """What becomes of a run of which *before* had become, and whose state is now *state*."""
    if state is None:
        return Next(None, 0, anew=True)
    if before.state is None or is_rewritten(before.state, state):
        return Next(state, 1, line_of(1, parts_between(None, state)), before.anew or before.state is not None)
    number = before.lines + 1
    return Next(state, number, before.data + line_of(number, parts_between(before.state, state)), before.anew)
