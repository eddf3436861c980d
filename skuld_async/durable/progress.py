"""Progress: what an implementation tells the watchers of a run while it is at work."""

from __future__ import annotations

from typing import Any

from skuld_async._context import current_strand
from skuld_async._run import current_call
from skuld_async.log.strands import LoggedStrand

from .scribe import Scribe


async def progress(data: Any) -> None:
    """Tell whoever watches the run how far this call has got: called by the implementation of a port.

    It comes to `Run.watch` as an event of the kind ``progress``, with the entry and the attempt of the call. It is no
    part of the log, and a call that is made again reports again. Outside of a runtime nobody watches, and nothing
    happens.

    Args:
        data: What JSON can hold.
    """
    strand = current_strand.get()
    keeper = strand.journal.book.keeper if isinstance(strand, LoggedStrand) else None
    if isinstance(keeper, Scribe):
        call = current_call()
        keeper.report({"entry": call.key.removeprefix(f"{keeper.record.id}/"), "attempt": call.attempt, "data": data})
        if keeper.is_crowded:
            await keeper.write()
