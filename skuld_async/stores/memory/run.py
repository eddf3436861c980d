"""A run in memory: all that belongs to it, and how its record changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from skuld_async.durable.records import Message, NewEvent, RunRecord, WaitRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from skuld_async.durable.records import Append, NewRun, RunFilter, WaitFilter


class MemoryRun:
    """A run, and all that belongs to it; records are frozen, so that nobody who was given one can change it."""

    def __init__(self, record: RunRecord, chunk: bytes) -> None:
        self.record = record
        self.chunks = [chunk]
        self.messages: list[tuple[Message, str | None]] = []
        self.waits: dict[str, WaitRecord] = {}
        self.events: list[NewEvent] = []
        self.last_append: tuple[str, int, int] | None = None
        """Worker, token and number: one that comes again is recognised by them, also after the lease was given back."""

    @property
    def unfolded(self) -> Sequence[Message]:
        """The messages that its owner has still to deal with."""
        return tuple(message for message, fate in self.messages if fate is None)

    def write(self, item: Append) -> None:
        """Change the log, the messages and the events as *item* says."""
        if item.replace:
            self.chunks.clear()
            self._forget(item.forget)
        if item.chunk is not None:
            self.chunks.append(item.chunk)
        if item.folded:
            fates = {folded.number: folded.refused for folded in item.folded}
            self.messages[:] = [(message, fates.get(message.number, fate)) for message, fate in self.messages]
        self.events += item.events
        if item.trim:
            self.events[:] = [event for event in self.events if event.offset > item.trim]

    def _forget(self, before: float) -> None:
        """Remove what is over since then."""
        self.messages[:] = [(one, fate) for one, fate in self.messages if fate is None or one.at >= before]
        for wait in [wait for wait in self.waits.values() if wait.state == "closed" and wait.opened < before]:
            del self.waits[wait.id]


def new_record(run: NewRun, worker: str | None) -> RunRecord:
    """The record of a run that begins."""
    record = RunRecord(
        id=run.id,
        workflow=run.workflow,
        version=run.version,
        arguments=run.arguments,
        tags=run.tags,
        status="paused" if run.paused else "running",
        created=run.at,
        updated=run.at,
        appends=1,
    )
    if run.paused:
        return record
    return replace(record, wake=0.0) if worker is None else replace(record, owner=worker, token=1)


def after_append(record: RunRecord, item: Append) -> RunRecord:
    """The record of a run after an append."""
    after = replace(
        record,
        appends=item.number,
        events=item.events[-1].offset if item.events else record.events,
        recoveries=0 if item.progress else record.recoveries,
    )
    has_mail = record.inbox > item.seen
    if item.status is not None:
        status = "running" if item.status == "suspended" and has_mail else item.status
        after = replace(
            after,
            status=status,
            updated=record.updated if status == record.status else item.at,
            result=item.result,
            error=item.error,
            attention=item.attention,
        )
    if item.release:
        is_ready = has_mail and after.status in {"running", "suspended"}
        after = replace(after, owner=None, wake=0.0 if is_ready else item.wake)
    return after


def after_claim(record: RunRecord, worker: str, now: float) -> RunRecord:
    """The record of a run that *worker* takes."""
    return replace(
        record,
        status="running",
        updated=record.updated if record.status == "running" else now,
        wake=None,
        owner=worker,
        token=record.token + 1,
        recoveries=record.recoveries if record.owner is None else record.recoveries + 1,
    )


def after_message(record: RunRecord, message: Message) -> RunRecord:
    """The record of a run that *message* was sent to."""
    after = replace(record, inbox=message.number)
    if record.status == "suspended":
        after = replace(after, status="running", updated=message.at)
    return replace(after, wake=0.0) if after.status == "running" and after.owner is None else after


def requeued(record: RunRecord, now: float) -> RunRecord:
    """The record of a run that was parked, and is let go."""
    return replace(record, status="running", updated=now, wake=0.0, recoveries=0, error=None, attention=None)


def wanted_runs(only: RunFilter, records: Iterator[RunRecord]) -> Iterator[RunRecord]:
    """Those that a filter leaves."""
    for record in records:
        if (
            only.workflow in {None, record.workflow}
            and (only.statuses is None or record.status in only.statuses)
            and (only.tag is None or only.tag in record.tags)
        ):
            yield record


def wanted_waits(only: WaitFilter, waits: Iterator[WaitRecord]) -> Iterator[WaitRecord]:
    """Those that a filter leaves."""
    for wait in waits:
        if (
            only.run in {None, wait.run}
            and only.workflow in {None, wait.workflow}
            and (only.tag is None or only.tag in wait.tags)
            and only.assignee in {None, wait.assignee}
            and only.name in {None, wait.name}
            and (only.opened_before is None or wait.opened < only.opened_before)
        ):
            yield wait
