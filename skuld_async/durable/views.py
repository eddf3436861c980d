"""Views: what a runtime tells of runs and questions; each can be sent as JSON."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from .records import ENDED, PARKED, MessageKind, RunStatus

if TYPE_CHECKING:
    from .records import Message, RunRecord, WaitRecord
    from .tokens import Tokens

_encode = msgspec.json.Encoder().encode


class _View(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    def to_json(self) -> bytes:
        """This view as a JSON document."""
        return _encode(self)


class Problem(msgspec.Struct, frozen=True):
    """Why a run failed, needs attention, or is dead."""

    type: str
    """``module:qualname`` of the error's class."""
    message: str


class OpenWait(_View, frozen=True, kw_only=True):
    """An open question, as anything that can show a form needs it."""

    run: str
    id: str
    """Of its entry in the log of the run."""
    token: str
    """What an answer is addressed to: text that fits a URL."""
    digest: str
    """Of the question: an answer is bound to it."""
    sig: str
    """Stable name of the question's class."""
    question: Raw
    """Its fields, JSON."""
    question_schema: Raw | UnsetType = UNSET
    """JSON Schema of the question; left out where this process does not know its class."""
    answer_schema: Raw
    """JSON Schema of the answer."""
    workflow: str
    opened: datetime
    name: str | None = None
    assignee: str | None = None
    deadline: datetime | None = None
    tags: tuple[str, ...] = ()


class RunView(_View, frozen=True, kw_only=True):
    """How a run stands."""

    id: str
    workflow: str
    version: str | None = None
    status: RunStatus
    created: datetime
    updated: datetime
    tags: tuple[str, ...] = ()
    result: Raw | UnsetType = UNSET
    """What it returned, JSON, once it is completed."""
    problem: Problem | None = None
    """Why it failed, needs attention, or is dead."""
    attention: str | None = None
    """The same in one word, where it needs attention: ``divergence``, ``unknown-workflow``, ..."""
    wake_at: datetime | None = None
    """When its next sleep or timeout is over."""
    waits: tuple[OpenWait, ...] = ()
    """The first of its open questions."""

    @property
    def is_settled(self) -> bool:
        """Whether nothing moves until somebody answers, a time has come, or a person looks."""
        return self.status != "running"

    @property
    def has_ended(self) -> bool:
        """Whether it will never move again."""
        return self.status in ENDED


class Accepted(_View, frozen=True, kw_only=True):
    """An answer that was taken."""

    run: str
    wait: str
    by: str
    at: datetime
    repeated: bool = False
    """Whether the same answer had been given before."""


class RunEvent(_View, frozen=True, kw_only=True):
    """Something that happened in a run."""

    offset: int
    """Counted from 1; `Run.watch` goes on behind it."""
    at: datetime
    kind: str
    """``step`` of an external effect that was settled, ``retry`` of an attempt that failed and is followed by another,
    ``progress`` of what an implementation reports."""
    data: Any
    """Entry and effect; of progress, also the attempt, and what was reported."""


class SentMessage(_View, frozen=True, kw_only=True):
    """An answer or a cancel that was sent to a run."""

    number: int
    kind: MessageKind
    wait: str
    """Id of the question; empty where it is for a name, and of a cancel."""
    name: str
    body: str
    """JSON; of a cancel, the reason."""
    by: str
    at: datetime
    state: Literal["pending", "used", "refused"]
    refused: str = ""
    """Why it was of no use."""


def sent(message: Message, refused: str | None) -> SentMessage:
    """What is told of *message*, and of what became of it."""
    return SentMessage(
        number=message.number,
        kind=message.kind,
        wait=message.wait,
        name=message.name,
        body=message.body.decode(errors="replace"),
        by=message.by,
        at=time_of(message.at),
        state="pending" if refused is None else "refused" if refused else "used",
        refused=refused or "",
    )


def view_of_run(record: RunRecord, waits: tuple[OpenWait, ...] = ()) -> RunView:
    """What is told of *record*."""
    problem = None
    if record.error is not None and (record.status == "failed" or record.status in PARKED):
        problem = msgspec.json.decode(record.error, type=Problem)
    return RunView(
        id=record.id,
        workflow=record.workflow,
        version=record.version,
        status=record.status,
        created=time_of(record.created),
        updated=time_of(record.updated),
        tags=record.tags,
        result=UNSET if record.result is None else Raw(record.result),
        problem=problem,
        attention=record.attention if record.status == "needs_attention" else None,
        wake_at=time_of(record.wake) if record.wake and record.status == "suspended" else None,
        waits=waits,
    )


def view_of_wait(record: WaitRecord, tokens: Tokens, question_schema: bytes | None) -> OpenWait:
    """What is told of *record*."""
    return OpenWait(
        run=record.run,
        id=record.id,
        token=tokens.sign(address(record.run, record.id, record.digest)),
        digest=record.digest,
        sig=record.sig,
        question=Raw(record.question),
        question_schema=UNSET if question_schema is None else Raw(question_schema),
        answer_schema=Raw(record.schema),
        workflow=record.workflow,
        opened=time_of(record.opened),
        name=record.name,
        assignee=record.assignee,
        deadline=None if record.deadline is None else time_of(record.deadline),
        tags=record.tags,
    )


def address(run: str, wait: str, digest: str) -> str:
    """What a token is made of: a run's id may hold any character."""
    return _encode([run, wait, digest]).decode()


def time_of(seconds: float) -> datetime:
    """*seconds* since the epoch."""
    return datetime.fromtimestamp(seconds, UTC)
