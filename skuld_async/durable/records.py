"""Records: the rows that a runtime and its store exchange. Times are seconds since the epoch; payloads are bytes."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

RunStatus: TypeAlias = Literal[
    "running", "suspended", "paused", "needs_attention", "dead", "completed", "failed", "cancelled"
]
"""How a run stands.

===============  ==========================================================  ======================
status           what it means                                               leaves it by
===============  ==========================================================  ======================
running          a worker has it, or the next free one takes it              itself
suspended        waits for an answer, a time, or both                        these; a cancel
paused           was started so, and waits for its release                   `Runtime.release`
needs_attention  the code at hand cannot go on with it                       `Runtime.release`
dead             killed its workers too often (``max_recoveries``)           `Runtime.release`
completed        returned                                                    -
failed           raised                                                      -
cancelled        was cancelled, and has done its cleanup                     -
===============  ==========================================================  ======================
"""

ENDED: tuple[RunStatus, ...] = ("completed", "failed", "cancelled")
PARKED: tuple[RunStatus, ...] = ("paused", "needs_attention", "dead")

WaitState: TypeAlias = Literal["open", "answered", "closed"]
"""Of a question: ``open`` takes an answer, ``answered`` holds one that its run has not seen yet."""

MessageKind: TypeAlias = Literal["answer", "deposit", "cancel"]


class NewRun(msgspec.Struct, frozen=True):
    """A run that begins."""

    id: str
    workflow: str
    """Stable name of the computation."""
    version: str | None
    arguments: bytes
    """Canonical JSON."""
    tags: tuple[str, ...]
    paused: bool
    chunk: bytes
    """The first part of its log."""
    at: float


class RunRecord(msgspec.Struct, frozen=True):
    """A run as the store has it, without its log."""

    id: str
    workflow: str
    version: str | None
    arguments: bytes
    tags: tuple[str, ...]
    status: RunStatus
    created: float
    updated: float
    """When its status last changed: at an append, or by a message that let a suspended run go on."""
    wake: float | None = None
    """When it is to be taken by a worker, if nothing happens before; 0 for now, None for never."""
    owner: str | None = None
    """Id of the worker that has it."""
    token: int = 0
    """The fencing token: how often it was taken."""
    appends: int = 0
    """How many appends its log has seen."""
    inbox: int = 0
    """How many messages it was ever sent: the number of the last one."""
    events: int = 0
    """Offset of its last event."""
    recoveries: int = 0
    """How often it was taken from a dead worker since it last made progress."""
    result: bytes | None = None
    """JSON, of a completed run."""
    error: bytes | None = None
    """Of a failed run: type and message. Of one that needs attention or is dead: why. JSON."""
    attention: str | None = None
    """Why it needs attention, in one word; None if it does not."""


class WaitRecord(msgspec.Struct, frozen=True):
    """A question, as the inbox shows it."""

    run: str
    id: str
    """Of its entry in the log of the run."""
    digest: str
    """Of the question: an answer is bound to it."""
    sig: str
    """Stable name of the question's class."""
    question: bytes
    """Its fields, JSON."""
    schema: bytes
    """JSON Schema of the answer."""
    opened: float
    workflow: str
    tags: tuple[str, ...] = ()
    """Of its run."""
    name: str | None = None
    assignee: str | None = None
    deadline: float | None = None
    state: WaitState = "open"
    answer: bytes | None = None
    """JSON."""
    answered_by: str = ""
    answered: float | None = None


class NewAnswer(msgspec.Struct, frozen=True):
    """An answer to a question: checked, by whoever knows its class."""

    run: str
    wait: str
    digest: str
    body: bytes
    """JSON."""
    by: str
    at: float


class NewDeposit(msgspec.Struct, frozen=True):
    """An answer that nobody has checked, left for the owner of its run."""

    run: str
    wait: str
    """Id of the wait; empty where it is left for a name."""
    name: str
    """Name of the wait, which may still have to be asked; empty where *wait* is given."""
    body: bytes
    """JSON."""
    by: str
    at: float


class Message(msgspec.Struct, frozen=True):
    """What was sent to a run, and its owner has still to fold in."""

    number: int
    """Counted from 1 in its run."""
    kind: MessageKind
    wait: str
    """Id of the wait that it is for; empty of a cancel, and of a deposit that is for a name."""
    name: str
    """Name of the wait that a deposit is for, which may still have to be asked; else empty."""
    body: bytes
    """The answer, JSON; the reason of a cancel."""
    by: str
    at: float


class Closing(msgspec.Struct, frozen=True):
    """A wait that an append ends."""

    wait: str
    answered: bool
    """Whether the owner knows of an answer to it. Else the append is refused if the wait has one meanwhile."""


class Folded(msgspec.Struct, frozen=True):
    """A message that is dealt with."""

    number: int
    refused: str = ""
    """Why it was of no use; empty if it was."""


class NewEvent(msgspec.Struct, frozen=True):
    """Something that watchers of a run are told."""

    offset: int
    """Counted from 1 in its run, without gaps."""
    at: float
    data: bytes
    """JSON."""


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner of a run writes: all of it or nothing.

    It is refused unless *worker* and *token* are those of the lease and *number* follows the last append.
    """

    run: str
    worker: str
    token: int
    number: int
    """``RunRecord.appends`` will be this."""
    at: float
    chunk: bytes | None = None
    """The next part of the log."""
    replace: bool = False
    """Whether *chunk*, which is then given, is the whole log, and takes the place of all that was written before."""
    status: RunStatus | None = None
    """The new status; None leaves it. One that ends the run closes all its waits; ``suspended`` is running where there
    are messages beyond *seen*."""
    result: bytes | None = None
    error: bytes | None = None
    attention: str | None = None
    release: bool = False
    """Whether the lease is given back."""
    wake: float | None = None
    """When the run is to be taken again, once it is released; at once if it has messages beyond *seen*."""
    seen: int = 0
    """Number of the last message that the owner has folded in."""
    opens: tuple[WaitRecord, ...] = ()
    closes: tuple[Closing, ...] = ()
    folded: tuple[Folded, ...] = ()
    events: tuple[NewEvent, ...] = ()
    trim: int = 0
    """Events up to this offset are removed."""
    forget: float = 0.0
    """With *replace*: waits that are closed and were opened before this time, and messages that are dealt with and were
    sent before it, are removed; not those that this append closes or folds."""
    progress: bool = True
    """Whether the run got further: its recoveries are counted from 0 again."""


class WorkerRecord(msgspec.Struct, frozen=True):
    """A runtime that takes runs from a store."""

    id: str
    host: str
    """What *pid* is a number on: host, boot and pid namespace."""
    pid: int
    born: str
    """When the process with that number was started, in the words of its system: numbers are used again."""
    workflows: tuple[str, ...]
    beat: int = 0
    """Grows with each heartbeat."""


class RunFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which runs; None takes all."""

    workflow: str | None = None
    statuses: tuple[RunStatus, ...] | None = None
    tag: str | None = None


class WaitFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which open questions; None takes all."""

    run: str | None = None
    workflow: str | None = None
    tag: str | None = None
    assignee: str | None = None
    name: str | None = None
    opened_before: float | None = None
