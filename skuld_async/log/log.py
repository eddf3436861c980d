"""Log: one self-contained document, as JSON to read and edit, or as MessagePack with a checksum."""

from __future__ import annotations

import zlib
from datetime import datetime
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from skuld_async._errors import LogDecodeError

from .entry import FORMAT, Entry, ErrorData, Header
from .schema import schema_of_log


class Wait(msgspec.Struct, frozen=True):
    """An open question, as anything that can show a form needs it."""

    run: str
    """Id of the run."""
    id: str
    """Of its entry."""
    sig: str
    """Stable name of the question's class."""
    question: Raw
    """The question's fields, JSON."""
    schema: Raw
    """JSON Schema of the answer."""
    digest: str
    """Of the question: an answer is bound to it."""
    name: str | None = None
    """Given by ``question.named(...)``."""
    deadline: datetime | None = None
    """When its time is over, where it was asked ``within(...)`` one."""
    assignee: str | None = None
    """Given by ``question.assigned_to(...)``."""

    def __repr__(self) -> str:
        return f"<Wait {self.ref}: {self.sig} {bytes(self.question).decode(errors='replace')}>"

    @property
    def ref(self) -> str:
        """What an answer is addressed to: this run, this wait and this question."""
        return ref_of(self.run, self.id, self.digest)


def ref_of(run: str, wait: str, digest: str) -> str:
    """The address of a question, as `Wait.ref` gives it."""
    return f"{run}/{wait}={digest}"


class Log(msgspec.Struct, forbid_unknown_fields=True):
    """What a run did so far: header, entries in the order in which they started, entries that a divergence left over.

    ``Log()`` is an empty one, to be filled by ``start(..., into=log)``.
    """

    header: Header = msgspec.field(default_factory=lambda: Header(FORMAT))
    """Which run this is, and how it stands."""
    entries: list[Entry] = []
    """One for each effect, in the order in which they started."""
    dropped: list[Entry] = []
    """What a divergence or a `rerun` left over; an executed external effect among these is not performed again."""

    def to_json(self) -> bytes:
        """The log as a JSON document."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, data: bytes | str) -> Log:
        """Read what `to_json` wrote, edited or not.

        Raises:
            LogDecodeError: These bytes are no log of a format that this release reads.
        """
        try:
            if not isinstance(data, str):
                str(data, "utf-8")  # values are kept as they are, so nobody else would look at them here
            log = _json_decoder.decode(data)
        except (ValueError, RecursionError, TypeError) as error:
            raise LogDecodeError(_problem(error, data)) from None
        return checked(log)

    def to_msgpack(self) -> bytes:
        """The log in a MessagePack envelope: format, checksum (CRC-32), and what `to_json` writes, as bytes.

        For machines: damage is found. Nothing is transcoded, because the values are JSON in memory too.
        """
        body = self.to_json()
        return _encode_msgpack((FORMAT, zlib.crc32(body), body))

    @classmethod
    def from_msgpack(cls, data: bytes) -> Log:
        """Read what `to_msgpack` wrote.

        Raises:
            LogDecodeError: These bytes are no log of a format that this release reads, or are damaged.
        """
        try:
            version, checksum, body = _envelope_decoder.decode(data)
        except (ValueError, RecursionError) as error:
            problem = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
            raise LogDecodeError(problem) from None
        if version != FORMAT:
            raise LogDecodeError(_other_format(version))
        if zlib.crc32(body) != checksum:
            problem = "its checksum does not match: it was damaged or changed"
            raise LogDecodeError(problem)
        return cls.from_json(body)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema of the document that `to_json` writes."""
        return schema_of_log()

    @property
    def waits(self) -> list[Wait]:
        """The open questions."""
        return [
            Wait(
                self.header.run,
                entry.id,
                entry.sig,
                entry.data,
                Raw(b"{}") if entry.wait.schema is UNSET else entry.wait.schema,
                entry.wait.digest,
                entry.wait.name,
                None if entry.deadline is UNSET else entry.deadline,
                entry.wait.assignee,
            )
            for entry in self.entries
            if entry.wait is not UNSET and entry.state == "started"
        ]

    def __repr__(self) -> str:
        return f"<Log of run {self.header.run!r}, {self.header.status}, {len(self.entries)} entries>"

    def __str__(self) -> str:
        header = self.header
        rows = [("entry", "state", "effect", "data", "value")]
        rows += [
            (entry.id, entry.state, entry.sig.rpartition(":")[2], _text(entry.data), _outcome(entry))
            for entry in self.entries
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"run {header.run}: {header.computation.rpartition(':')[2]}, {header.status}"]
        if header.error is not UNSET:
            lines[0] += f" {f'at {header.cause} ' if header.cause else ''}with {_error(header.error)}"
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            lines.append("  ".join([*cells, row[4]]).rstrip())
        return "\n".join(lines)


def copy_of(log: Log) -> Log:
    """A copy that a session may write to. Entries are shared: a session replaces the ones that it settles."""
    header = msgspec.structs.replace(log.header, settled=list(log.header.settled))
    return Log(header, list(log.entries), list(log.dropped))


_json_decoder = msgspec.json.Decoder(Log)
_encode_msgpack = msgspec.msgpack.Encoder().encode
_envelope_decoder = msgspec.msgpack.Decoder(tuple[int, int, bytes])


_id_of = attrgetter("id")


def checked(log: Log) -> Log:
    """*log*, if a session could go on with it; raises `LogDecodeError`."""
    if log.header.format != FORMAT:
        raise LogDecodeError(_other_format(log.header.format))
    if not (log.header.run and log.header.seed and log.header.computation):
        problem = "its header names no run, seed or computation"
        raise LogDecodeError(problem)
    if len(set(map(_id_of, log.entries))) != len(log.entries):
        seen: set[str] = set()
        twice = next(entry.id for entry in log.entries if entry.id in seen or seen.add(entry.id))  # type: ignore[func-returns-value]
        problem = f"two entries have the id {twice}"
        raise LogDecodeError(problem)
    return log


def _other_format(version: int) -> str:
    return f"it has format {version}, and this release reads format {FORMAT}"


class _PeekHeader(msgspec.Struct):
    format: int


class _Peek(msgspec.Struct):
    header: _PeekHeader


def _problem(error: Exception, data: bytes | str) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    try:
        version = msgspec.json.decode(data, type=_Peek).header.format
    except (ValueError, RecursionError, TypeError):
        return f"{error}"
    return _other_format(version) if version != FORMAT else f"{error}"


def _error(error: ErrorData) -> str:
    return f"{error.type.rpartition(':')[2]} {error.message}".strip()


def _outcome(entry: Entry) -> str:
    if entry.error is not UNSET:
        text = _error(entry.error)
        return f"{entry.error.kind}: {text}" if text else entry.error.kind
    if entry.strands is not UNSET and entry.strands.won is not None:
        return f"won: {entry.strands.won}"
    if entry.strands is not UNSET and entry.strands.timed_out:
        return "timed out"
    return "" if entry.state == "started" else _text(entry.value)


def _text(raw: Raw, limit: int = 36) -> str:
    text = bytes(raw).decode(errors="replace")
    return text if len(text) <= limit else text[: limit - 1] + "…"
