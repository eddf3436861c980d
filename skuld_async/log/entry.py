"""Entries and the header: the rows of a log, as they are stored.

The states of an entry, and what may follow:

==========  ======================================  =================================================
state       holds                                   followed by
==========  ======================================  =================================================
started     the request                             executed, or discarded
executed    the request and its value               nothing
discarded   the request and its error               nothing
==========  ======================================  =================================================

Values are JSON that was encoded when the effect was requested or settled; they are decoded only where the type is
known. Room is kept, in names that no field may take otherwise: ``patch``, ``fork``, ``by``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

FORMAT = 0
"""Version of the stored format. 0 promises nothing to later releases."""

NO_DATA = Raw(b"{}")
NULL = Raw(b"null")
COMMITTED, ROLLED_BACK = Raw(b'"committed"'), Raw(b'"rolled back"')
"""What the entry of a transaction says."""


def raw_value(data: bytes) -> Raw:
    """*data* as an entry holds it: null is left out of the document."""
    return NULL if data == b"null" else Raw(data)


EntryState: TypeAlias = Literal["started", "executed", "discarded"]
Status: TypeAlias = Literal["running", "suspended", "completed", "failed", "cancelled"]
ErrorKind: TypeAlias = Literal[
    "declared", "domain", "builtin", "other", "group", "result", "body-scope", "run-cancel", "task", "timed-out"
]


class ErrorData(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An error as data; how it is rebuilt depends on its kind."""

    kind: ErrorKind
    type: str = ""
    """``module:qualname`` of the class."""
    message: str = ""
    data: Raw | UnsetType = UNSET
    children: list[ErrorData] = []
    declared: bool = False
    """Whether the operation declares it (``raises=``): then its receiver has answered."""


class WaitData(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the entry of a question holds beside the question."""

    digest: str
    """Of the question: an answer is bound to it."""
    schema: Raw | UnsetType = UNSET
    """JSON Schema of the answer, until there is one."""
    name: str | None = None
    assignee: str | None = None


class StrandsData(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What was decided about the branches of a concurrent effect; absent while nothing was."""

    won: str | None = None
    """The branch that returned first, of a race."""
    failed: list[str] = []
    """The branches whose errors count, in their order."""
    timed_out: bool = False
    """Whether the time was over first."""
    stopped: list[str] = []
    """Where the other branches were stopped, as `Cancellation.at`."""
    task: str | None = None
    """The task whose error stopped all of them."""
    values: dict[str, Raw] | UnsetType = UNSET
    """Where the branches were pruned: what each that counts has returned, JSON."""
    told: dict[str, Raw] = {}
    """Where they were pruned: what they told and emitted, by the key of its cell, JSON."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An attempt at a call that failed, behind which it is tried again."""

    error: ErrorData
    """Type and message of its error."""
    at: datetime
    """When it failed."""
    due: datetime
    """When the next one is made."""


class MarkData(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What the entry of a loop mark holds beside its carry."""

    iteration: int
    """Counted from 1."""
    cells: dict[str, Raw] = {}
    """Handler state at the mark."""


class Entry(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, gc=False):
    """One effect of a run."""

    id: str
    """``strand/loop@activation#iteration/number``; unique in the run."""
    sig: str
    """Stable name of the effect class."""
    data: Raw = NO_DATA
    """The effect's fields, canonical JSON."""
    state: EntryState = "executed"
    """Started, executed or discarded."""
    value: Raw = NULL
    """The answer, JSON, once it is executed."""
    scope: str = ""
    """Path of the scope whose state a local effect is about, empty for the outermost."""
    error: ErrorData | UnsetType = UNSET
    """Why it was discarded."""
    wait: WaitData | UnsetType = UNSET
    """Of a question."""
    mark: MarkData | UnsetType = UNSET
    """Of a loop mark."""
    deadline: datetime | UnsetType = UNSET
    """Of a sleep, a question or a concurrent effect: when its time is over; of a call: when it is tried again."""
    strands: StrandsData | UnsetType = UNSET
    """Of a concurrent effect."""
    attempts: tuple[Attempt, ...] = ()
    """Of a call that is tried again: the attempts that failed, but for the last one, whose error is its own."""


class Settled(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A question that has its answer."""

    wait: str
    digest: str


class Cancellation(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """That a run was cancelled, and where."""

    at: str
    """Id of the request that it cut short, ``0/0`` before the first step.

    With a ``+`` it is the one behind which the body was in an await of its own."""
    reason: str
    also: list[str] = []
    """The same for each further strand."""


class Header(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What a log is the log of."""

    format: int
    run: str = ""
    seed: str = ""
    """Text that the derived effects are derived from."""
    computation: str = ""
    version: str | None = None
    arguments: Raw = NO_DATA
    status: Status = "running"
    cause: str | None = None
    """Id of the entry whose error failed the run."""
    result: Raw | UnsetType = UNSET
    error: ErrorData | UnsetType = UNSET
    suffix: int = 0
    """How often this log was diverged from or cut; ids of later entries end with ``~suffix``."""
    settled: list[Settled] = []
    """The last 16 answered questions; they outlive pruning."""
    cancelled: Cancellation | UnsetType = UNSET
