"""Waits: how a question stands in the log, and which answer may settle it."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from msgspec import UNSET, Raw

from skuld_async._answers import AlreadyAnsweredError, NotWaitingError, OtherQuestionError, SeveralWaitsError
from skuld_async._declared import Misfit, decode_plain, differences
from skuld_async._errors import DivergenceError
from skuld_async._signals import Fault
from skuld_async.effects.yield_ import assignee_of, name_of

from .entry import Settled, WaitData, raw_value
from .log import Wait, ref_of

if TYPE_CHECKING:
    from skuld_async._declared import Declared
    from skuld_async.effects.yield_ import Yield

    from .codec import Codec
    from .entry import Entry, ErrorData, Header
    from .log import Log


_SETTLED_KEPT = 16


def digest_of(entry: Entry) -> str:
    """Digest of a question: 16 hexadecimal digits of SHA-256 over its name and its data."""
    import hashlib  # noqa: PLC0415 - not needed to import the library

    return hashlib.sha256(entry.sig.encode() + b"\0" + bytes(entry.data)).hexdigest()[:16]


def open_wait(codec: Codec, entry: Entry, question: Yield[Any]) -> WaitData:
    """What the started entry of *question* holds."""
    schema = Raw(codec.answer.schema())
    return WaitData(digest_of(entry), schema, name_of(question), assignee_of(question))


def close_wait(log: Log, entry: Entry, data: bytes) -> None:
    """Settle the entry of a question with its answer, JSON."""
    entry.value, entry.state = raw_value(data), "executed"
    digest = without_schema(entry)
    settled = log.header.settled
    settled.append(Settled(entry.id, digest))
    del settled[:-_SETTLED_KEPT]


def without_schema(entry: Entry) -> str:
    """Drop what only an open wait needs; gives the digest of the question."""
    digest = digest_of(entry)
    if entry.wait is not UNSET:
        entry.wait = WaitData(digest, UNSET, entry.wait.name, entry.wait.assignee)
    return digest


def wake_at(log: Log) -> datetime | None:
    """When the next sleep or timeout is over."""
    due = (one.deadline for one in log.entries if one.state == "started" and isinstance(one.deadline, datetime))
    return min(due, default=None)


def addressed(log: Log, to: Wait | str | None) -> Wait:
    """The open wait of *log* that an answer addressed *to* may settle; raises `AnswerError`."""
    open_waits = log.waits
    ref = to.ref if isinstance(to, Wait) else to
    if ref is not None and any(
        ref == ref_of(log.header.run, settled.wait, settled.digest) for settled in log.header.settled
    ):
        raise AlreadyAnsweredError(ref)
    if not open_waits or log.header.status == "cancelled":
        raise NotWaitingError(log.header.run, log.header.status)
    if ref is None:
        if len(open_waits) > 1:
            raise SeveralWaitsError([wait.ref for wait in open_waits])
        return open_waits[0]
    for wait in open_waits:
        if wait.ref == ref:
            return wait
    raise OtherQuestionError(ref, ", ".join(wait.ref for wait in open_waits[:10]))


def check_question(entry: Entry, to: Wait | str | None, run: str) -> None:
    """Stop the run where the answer that is on its way was meant for another question than the one it has come to."""
    if isinstance(to, str):
        meant = to
    elif to is not None:
        meant = to.ref
    else:
        return
    if meant.rpartition("=")[2] != digest_of(entry):
        raise Fault(OtherQuestionError(meant, ref_of(run, entry.id, digest_of(entry))))


def check_result(header: Header, declared: Declared[Any], data: bytes) -> None:
    """Raise `DivergenceError` unless a replay returned what the log says."""
    logged = header.result
    if logged is not UNSET:
        try:
            if declared.decode(logged) == declared.decode(data):
                return
        except Misfit:
            pass
    expected = "an error" if logged is UNSET else bytes(logged).decode(errors="replace")
    raise DivergenceError(
        f"{header.computation} returns another result than the log holds",
        expected=expected,
        received=data.decode(errors="replace"),
        differences=[] if logged is UNSET else list(differences(decode_plain(logged), decode_plain(data))),
        cause="the computation was changed behind its last effect; a failed run is run again by rerun(comp, log)",
    )


def check_not_cancelled(header: Header, ends: str) -> None:
    """Raise `DivergenceError` where a run that was cancelled comes to another end."""
    if header.cancelled is not UNSET:
        raise DivergenceError(
            f"{header.computation} {ends}, but the log says that it was cancelled at {header.cancelled.at}",
            cause="the computation was changed",
        )


def check_failure(header: Header, data: ErrorData) -> None:
    """Raise `DivergenceError` unless a replay failed as the log says."""
    logged = header.error
    if logged is UNSET or logged.type != data.type:
        raise DivergenceError(
            f"{header.computation} fails otherwise than the log says",
            expected="a result" if logged is UNSET else f"{logged.type}: {logged.message}",
            received=f"{data.type}: {data.message}",
            cause="the computation was changed behind its last effect",
        )
