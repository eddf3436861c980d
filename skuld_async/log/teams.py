"""Teams in the log: one entry for each concurrent effect, before those of its branches.

While it is started, its branches run: from their entries, then live. What is decided about them (who has won, whose
error counts, that the time was over) is written into it before a branch is stopped, together with where each is
stopped. So a crash at any moment leaves a log from which they come to the same:

==================  ===============================  ================================================
the entry is        and says                         a resume runs
==================  ===============================  ================================================
started             nothing                          all branches
started             what was decided                 those that count, and those whose cleanup is owed
executed            nothing                          all branches, from their entries
executed            who has won                      that one
executed            that the time was over           none
discarded           whose errors count               these, from their entries
discarded           that it was stopped              none
==================  ===============================  ================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never

import anyio
import msgspec
from msgspec import UNSET
from typing_extensions import override

from skuld_async._branch import Branch
from skuld_async._branches import POLL, Team
from skuld_async._clock import due_in
from skuld_async._frames import Frame
from skuld_async._opening import Opening
from skuld_async._scopes import ASYNC_FRAMED, Route
from skuld_async._signals import Fault, RunCancel, Signal, Suspend, TaskFailed
from skuld_async._strand import Strand
from skuld_async.effects.fork import Fork

from . import divergence, failures
from .blame import blamed, culprit
from .codec import codec_of
from .entry import Entry, ErrorData, StrandsData
from .journal import Journal
from .pruning import prune, restore
from .replaying import refuse_after_failure, wait_where_given_up
from .stopping import places_of, strand_on
from .strands import LoggedStrand

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from .strands import Bind


def concurrent(kind: type[Opening], journal: Journal, beside: Callable[[Journal], Bind], *, prune: bool) -> Route:
    """The route of a concurrent effect."""
    codec = codec_of(kind)

    async def open_team(effect: Opening, frame: Frame) -> Any:
        data = journal.data(codec, effect, frame)
        entry = journal.match(codec, data, frame)
        frame.place.replayed = entry is not None and entry.state != "started"
        is_old = entry is not None
        if entry is None:
            journal.spend(frame)
            entry = Entry(journal.new_id(frame), codec.sig, data, "started")
            journal.add(entry)
        frame.place.entry_id = entry.id
        if entry.state == "discarded" and (entry.strands is UNSET or entry.strands.task is not None):
            journal.book.pass_by(journal.book.lines_under(entry))
        if not _is_stopped_task(effect, entry):
            await wait_where_given_up(entry, frame)
        if entry.state == "started" and not journal.book.lines_under(entry):  # else there is cleanup to do
            refuse_after_failure(entry, frame, journal)
        journal.book.split()
        journal.careful = True
        team = LoggedTeam(frame, entry, journal, beside, is_old=is_old, prunes=prune)
        answer = effect.answer(team)
        if answer is not team:  # it does not wait for the branches
            frame.place.replayed = is_old
        return answer

    return Route(ASYNC_FRAMED, open_team)


class LoggedTeam(Team):
    """A team with its entry."""

    def __init__(
        self,
        frame: Frame,
        entry: Entry,
        journal: Journal,
        beside: Callable[[Journal], Bind],
        *,
        is_old: bool,
        prunes: bool,
    ) -> None:
        super().__init__(frame)
        self._entry = entry
        self._journal = journal
        self._beside = beside
        self._is_old = is_old
        self._prunes = prunes
        self._is_live = entry.state == "started"
        self._known = known = None if entry.strands is UNSET else entry.strands
        if known is not None:
            self.decided = True
            self.timed_out = known.timed_out
            if entry.state != "executed":  # a branch may have failed in the cleanup that it did then
                journal.book.stop(known.stopped)

    # -- who runs ----------------------------------------------------------------------------------------------------

    @override
    def check_names(self, names: Sequence[str]) -> None:
        self._journal.check_branches(self._entry, names)

    @override
    def has_to_run(self, branch: Branch) -> bool:
        has_to = self._has_to_run(branch)
        if not has_to:
            self._journal.book.pass_by([f"{self.id}.{branch.name}"])
        return has_to

    def _has_to_run(self, branch: Branch) -> bool:
        known = self._known
        if known is None:
            return self._entry.state != "discarded"
        if self._entry.state == "executed":
            return known.values is UNSET and not known.timed_out and known.won in (None, branch.name)
        if branch.name == known.won or branch.name in known.failed:
            return True
        path = f"{self.id}.{branch.name}/"
        return self._is_live and any(at.startswith(path) for at in known.stopped)

    @override
    def enlist(self, branch: Branch) -> None:
        outer, own = self.frame.strand, self._journal
        sealed = None if self._is_live else self._entry
        journal = Journal(own.book, f"{self.id}.{branch.name}", own, sealed)
        branch.strand = strand_on(journal, outer.run, outer.seed, outer)
        branch.scope = self.frame.table.scope.fork(self._beside(journal))
        if self._is_overdue():
            journal.overdue = self

    @override
    def left(self, branch: Branch) -> Fault | None:
        journal = _logged(branch.strand).journal
        journal.leave()
        signal = branch.strand.sticky
        if isinstance(signal, (Suspend, Fault)):
            return None
        if isinstance(signal, RunCancel):
            ended = "was stopped"
        elif branch.error is not None:
            ended = "raised"
        elif branch.has_returned:
            ended = "returned"
        else:
            return None
        try:
            journal.close(f"of branch {branch.name} {ended}")
        except Fault as fault:
            return fault
        return None

    @override
    def may_win(self, branch: Branch) -> bool:
        return self._known is None or self._known.won == branch.name

    @override
    def is_open(self) -> bool:
        return self._is_live and not self.decided

    @property
    @override
    def is_settled(self) -> bool:
        return not self._is_live

    @override
    def is_early(self) -> bool:
        return self._is_old and self._journal.book.is_early(f"{self.id}.")

    @override
    def is_owed(self, branch: Branch) -> bool:
        return bool(self._journal.book.line(f"{self.id}.{branch.name}"))

    # -- what is decided ---------------------------------------------------------------------------------------------

    @override
    def places(self, strand: Strand) -> list[str]:
        is_task = self._ended is not None
        return places_of(strand) if strand.stack or is_task else []  # a branch that has not begun is owed nothing

    @override
    def decide(self, places: list[str]) -> None:
        if not self._is_live:
            return
        known = self._known or StrandsData(None if self.won is None else self.won.name, [], self.timed_out, places)
        names = {branch.name for branch in self.failed}.union(known.failed)
        failed = [branch.name for branch in self._order if branch.name in names]
        self._known = self._entry.strands = msgspec.structs.replace(known, failed=failed)
        self._journal.book.is_unstable = True

    @override
    def collect(self, returned: Sequence[Branch]) -> None:
        known, entry = self._known, self._entry
        if known is not None and known.values is not UNSET:
            restore(entry, self._order, self.frame.table.scope)
            self.won = next((branch for branch in self._order if branch.name == known.won), None)
            return
        if self._prunes and self._is_live and self._due is None and not self.failed:
            prune(entry, returned, self._journal.book)
        super().collect(returned)

    @override
    def ended(self) -> None:
        if self._is_live:
            if self.failed:  # which settled stand beside the others
                self.decide([])
            self._entry.state = "executed"

    @override
    def error(self) -> BaseException | None:
        logged = self._entry.error
        if not self._is_live and logged is not UNSET and logged.kind == "run-cancel":
            return RunCancel()
        error, known = super().error(), self._known
        is_pruned = known is not None and known.values is not UNSET
        if error is None and self._first and self.won is None and not is_pruned:
            return Fault(divergence.without_winner(self._entry, self.frame.line()))
        return error

    @override
    def ended_with(self, error: BaseException) -> BaseException:
        entry, sticky = self._entry, self.frame.strand.sticky
        if not self._is_live:
            pass
        elif isinstance(error, RunCancel):
            self._journal.stop(entry, error)
            if self.stopped_for is not None:
                entry.error = ErrorData("task", self.stopped_for)
        elif isinstance(error, Signal):
            pass  # it is left to the next resume
        elif isinstance(error, Exception):
            entry.error, entry.state = failures.to_data(error), "discarded"
        elif isinstance(error, anyio.get_cancelled_exc_class()) and sticky is None:
            self._journal.abandon(entry, "body-scope")
        if isinstance(error, Exception) and culprit(error) is None:
            blamed(error, entry)  # the body's own error: a `rerun` runs the branches again
        return error

    @override
    def give_way(self, signal: TaskFailed) -> None:
        if self._is_live and self._known is None:
            places = [place for strand in self.strands() for place in self.places(strand)]
            self._known = self._entry.strands = StrandsData(stopped=places, task=signal.task.id)
            self._journal.book.is_unstable = self.decided = True

    @property
    @override
    def gives_way(self) -> bool:
        return self._is_live

    @property
    @override
    def stopped_for(self) -> str | None:
        return None if self._known is None else self._known.task

    # -- time --------------------------------------------------------------------------------------------------------

    @override
    async def due_after(self, after: timedelta) -> datetime:
        entry = self._entry
        if entry.deadline is UNSET:
            entry.deadline = await due_in(self.frame, after)
            self._journal.book.is_unstable = True
        return entry.deadline

    @property
    def deadline(self) -> datetime:
        """When its time is over, of one that has a time."""
        deadline = self._entry.deadline
        assert deadline is not UNSET
        return deadline

    def _is_overdue(self) -> bool:
        return self._is_live and not self.decided and self._timer is not None and self._timer.is_due

    @override
    async def wait(self) -> None:
        """Where the time was over before, what is logged comes first."""
        assert self._timer is not None
        while self._is_overdue() and self._live and self.is_early():  # noqa: ASYNC110 - the end of a replay is no event
            await anyio.sleep(POLL)
        await self._timer.wait()

    def expire(self, frame: Frame, entry: Entry | None) -> Never:
        """The time was over before the session began, and a branch comes to what it did not do in time."""
        strand = _logged(frame.strand)
        if entry is None:
            at = f"{frame.place.prefix}{frame.place.count - 1}+"
        else:
            at = entry.id
            strand.journal.stop(entry, RunCancel())
        strand.cut_at = at
        self.time_out()
        raise RunCancel


def _is_stopped_task(effect: Opening, entry: Entry) -> bool:
    """Whether *entry* was not cut short itself, but forked a task that was stopped later."""
    return isinstance(effect, Fork) and entry.strands is not UNSET and entry.strands.task is not None


def _logged(strand: Strand) -> LoggedStrand:
    assert isinstance(strand, LoggedStrand)
    return strand
