"""Rows and the records that they hold, column by column."""

from __future__ import annotations

from typing import TYPE_CHECKING

from skuld_async.durable.records import Message, NewEvent, RunRecord, WaitRecord, WorkerRecord

if TYPE_CHECKING:
    from .driver import Row

RUN = ", ".join(RunRecord.__struct_fields__)
WAIT = ", ".join(WaitRecord.__struct_fields__)
MESSAGE = ", ".join(Message.__struct_fields__)
WORKER = ", ".join(WorkerRecord.__struct_fields__)
EVENT = "number, at, data"

_RUN_TAGS = RunRecord.__struct_fields__.index("tags")
_WAIT_TAGS = WaitRecord.__struct_fields__.index("tags")
_WORKFLOWS = WorkerRecord.__struct_fields__.index("workflows")


def run_record(row: Row) -> RunRecord:
    """The run in a row that begins with the columns ``RUN``."""
    values = [*row[: len(RunRecord.__struct_fields__)]]
    values[_RUN_TAGS] = tuple(values[_RUN_TAGS])
    return RunRecord(*values)


def wait_record(row: Row) -> WaitRecord:
    """The wait in a row of the columns ``WAIT``."""
    values = [*row]
    values[_WAIT_TAGS] = tuple(values[_WAIT_TAGS])
    return WaitRecord(*values)


def message(row: Row) -> Message:
    """The message in a row that begins with the columns ``MESSAGE``."""
    return Message(*row[: len(Message.__struct_fields__)])


def event(row: Row) -> NewEvent:
    """The event in a row of the columns ``EVENT``."""
    return NewEvent(*row)


def worker_record(row: Row) -> WorkerRecord:
    """The worker in a row of the columns ``WORKER``."""
    values = [*row]
    values[_WORKFLOWS] = tuple(values[_WORKFLOWS])
    return WorkerRecord(*values)
