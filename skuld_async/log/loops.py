"""Loop marks in the log: a checkpoint of handler state and carry, and the pruning of what came before it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw

from skuld_async._declared import Misfit
from skuld_async._errors import UndecodableError, UnencodableError
from skuld_async._frames import Loop
from skuld_async._signals import Fault
from skuld_async.effects.loop import Mark, enter_iteration, mark_id, next_iteration

from . import divergence
from .codec import codec_of
from .entry import Entry, MarkData, raw_value
from .folding import fold

if TYPE_CHECKING:
    from collections.abc import Collection

    from skuld_async._frames import Frame

    from .journal import Journal


class Marks:
    """Answers `mark_loop` under a log."""

    def __init__(self, journal: Journal, *, prune: bool, state_keys: Collection[str] | None) -> None:
        self.journal = journal
        self.prune = prune
        self.state_keys = state_keys

    def mark(self, effect: Mark[Any], frame: Frame) -> Any:
        """Go on from the logged mark, or make a new one."""
        loop = next_iteration(frame, effect.loop)
        entry = self._logged(effect, frame, loop)
        if entry is None or entry.mark is UNSET:
            return self._make(effect, frame, loop)
        enter_iteration(frame, Loop(loop.label, entry.mark.iteration, loop.base))
        frame.place.replayed, frame.place.entry_id = True, entry.id
        self._restore(frame, entry, entry.mark)
        try:
            return effect.declared.decode(entry.value)
        except Misfit as error:
            raise Fault(UndecodableError(f"mark_loop({effect.loop!r})", entry.id, str(error))) from None

    def _logged(self, effect: Mark[Any], frame: Frame, loop: Loop) -> Entry | None:
        journal = self.journal
        if not journal.remaining:
            return None
        instance = mark_id(frame, loop).rpartition("#")[0]
        for index in range(journal.cursor, len(journal.entries)):
            entry = journal.entries[index]
            if entry.mark is not UNSET and entry.id.rpartition("#")[0] == instance:
                if index > journal.cursor:
                    journal.pass_over(index)
                return journal.take()
            if not journal.allow_divergence:
                data = Raw(msgspec.json.encode({"loop": effect.loop}))
                found = divergence.mismatch(codec_of(Mark), data, journal.entries, index, frame.line())
                raise Fault(found)
        return None

    def _make(self, effect: Mark[Any], frame: Frame, loop: Loop) -> Any:
        journal = self.journal
        if journal.log.header.status in ("completed", "failed"):
            data = Raw(msgspec.json.encode({"loop": effect.loop}))
            raise Fault(divergence.beyond(codec_of(Mark), data, journal.log, frame.line()))
        journal.spend(frame)
        try:
            carry, back = effect.declared.admit(effect.carry)
            cells = self._snapshot(frame) if self.prune else {}
        except Misfit as error:
            raise Fault(UnencodableError(f"mark_loop({effect.loop!r})", str(error), frame.line())) from None
        if journal.remaining:
            journal.diverge()
        if self.prune and loop.iteration > 1:
            self._prune(mark_id(frame, Loop(loop.label, loop.iteration - 1, loop.base)))
        enter_iteration(frame, loop)
        frame.place.replayed, frame.place.entry_id = False, mark_id(frame, loop)
        data = Raw(msgspec.json.encode({"loop": effect.loop}))
        mark = MarkData(loop.iteration, cells)
        journal.add(Entry(mark_id(frame, loop), Mark.__sig__, data, "executed", raw_value(carry), mark=mark))
        return back

    def _prune(self, previous: str) -> None:
        """Remove the previous iteration: from its mark, which is the last of that id, to the cursor."""
        journal = self.journal
        for index in range(journal.cursor - 1, -1, -1):
            if journal.entries[index].id == previous:
                journal.remove(index, journal.cursor)
                return

    def _snapshot(self, frame: Frame) -> dict[str, Raw]:
        cells: dict[str, Raw] = {}
        fold(self.journal.book, frame.table.scope.all_cells())
        for key, cell in frame.table.scope.all_cells():
            # What strands share is told from entries that this mark prunes.
            if self.state_keys is None or cell.name in self.state_keys or cell.shared:
                data, cell.value = cell.declared.admit(cell.value)  # as a cold resume will have it
                cells[key] = Raw(data)
        return cells

    def _restore(self, frame: Frame, entry: Entry, mark: MarkData) -> None:
        for key, cell in frame.table.scope.all_cells():
            if key in mark.cells and not cell.shared:
                try:
                    cell.value = cell.declared.decode(mark.cells[key])
                except Misfit as error:
                    raise Fault(UndecodableError(cell.name, entry.id, str(error))) from None
