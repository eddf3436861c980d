"""Log records of workflows: with run and entry, and silent while a run is replayed."""

from __future__ import annotations

import logging

from skuld_async._context import current_strand
from skuld_async.log.strands import LoggedStrand


class RunLogFilter(logging.Filter):
    """Tells records of workflows and of their ports which run and entry they are of, as ``%(run)s`` and ``%(entry)s``.

    What the body of a workflow logs while it is replayed was logged before, and is dropped. Other records pass as they
    are, with ``-`` for both.

        handler.addFilter(RunLogFilter())
        handler.setFormatter(logging.Formatter("%(message)s [%(run)s %(entry)s]"))
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether *record* is new."""
        strand = current_strand.get()
        record.run = record.entry = "-"
        if not isinstance(strand, LoggedStrand):
            return True
        record.run = strand.run
        if strand.stack:
            place = strand.stack[-1].place
            record.entry = place.current_id if place.count else f"{place.prefix}0"
        return not strand.journal.remaining
