"""Log: one self-contained document, as JSON to read and edit, or as MessagePack with a checksum."""

from __future__ import annotations

import zlib
from typing import Any, TypeAlias

import msgspec
from msgspec import UNSET, Raw, UnsetType

from skuld_async._errors import LogDecodeError

from .entry import FORMAT, NO_DATA, Entry, EntryState, ErrorData, Header, MarkData, WaitData, raw_value


class Wait(msgspec.Struct, frozen=True):
    """An open question, as anything that can show a form needs it."""

    id: str
    sig: str
    """Stable name of the question's class."""
    question: Raw
    """The question's fields, JSON."""
    schema: Raw
    """JSON Schema of the answer."""
    digest: str
    name: str | None = None

    @property
    def ref(self) -> str:
        """What an answer is addressed to: this wait and this question."""
        return f"{self.id}={self.digest}"


class Log(msgspec.Struct, forbid_unknown_fields=True):
    """What a run did so far: header, entries in the order in which they started, and entries that a divergence left over.

    ``Log()`` is an empty one, to be filled by ``start(..., into=log)``.
    """

    header: Header = msgspec.field(default_factory=lambda: Header(FORMAT))
    entries: list[Entry] = []
    dropped: list[Entry] = []

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
            log = _json_decoder.decode(data)
        except (ValueError, RecursionError, TypeError) as error:
            raise LogDecodeError(_problem(error, data, msgspec.json.decode)) from None
        return _checked(log)

    def to_msgpack(self) -> bytes:
        """The log as a MessagePack document with a checksum: the compact form for machines."""
        rows = [_row(entry) for entry in self.entries]
        body = _encode_msgpack((_encode_header(self.header), rows, [_row(entry) for entry in self.dropped]))
        return _encode_msgpack((FORMAT, zlib.crc32(body), body))

    @classmethod
    def from_msgpack(cls, data: bytes) -> Log:
        """Read what `to_msgpack` wrote.

        Raises:
            LogDecodeError: These bytes are no log of a format that this release reads, or are damaged.
        """
        try:
            version, checksum, body = _envelope_decoder.decode(data)
            if version != FORMAT:
                raise LogDecodeError(_other_format(version))
            if zlib.crc32(body) != checksum:
                problem = "its checksum does not match: it was damaged or changed"
                raise LogDecodeError(problem)
            header, rows, dropped = _body_decoder.decode(body)
            log = cls(_header_decoder.decode(header), [_entry(row) for row in rows], [_entry(row) for row in dropped])
        except LogDecodeError:
            raise
        except (ValueError, RecursionError, TypeError) as error:
            raise LogDecodeError(_problem(error, data, msgspec.msgpack.decode)) from None
        return _checked(log)

    @staticmethod
    def json_schema() -> dict[str, Any]:
        """The JSON Schema of the document that `to_json` writes."""
        schema = msgspec.json.schema(Log)
        return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "skuld_async log", **schema}

    @property
    def waits(self) -> list[Wait]:
        """The open questions."""
        return [
            Wait(
                entry.id,
                entry.sig,
                entry.data,
                Raw(b"{}") if entry.wait.schema is UNSET else entry.wait.schema,
                entry.wait.digest,
                entry.wait.name,
            )
            for entry in self.entries
            if entry.wait is not UNSET and entry.state == "started"
        ]

    def copy(self) -> Log:
        """A copy that a session may write to; entries that are settled are shared, because nothing changes them."""
        entries = [_copy(entry) if entry.state == "started" else entry for entry in self.entries]
        header = msgspec.structs.replace(self.header, settled=list(self.header.settled))
        return Log(header, entries, list(self.dropped))

    def __str__(self) -> str:
        header = self.header
        rows = [("entry", "state", "effect", "data", "value")]
        rows += [
            (entry.id, entry.state, entry.sig.rpartition(":")[2], _text(entry.data, 44), _outcome(entry))
            for entry in self.entries
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [f"run {header.run}: {header.computation.rpartition(':')[2]}, {header.status}"]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=False)]
            lines.append("  ".join([*cells, row[4]]).rstrip())
        return "\n".join(lines)


_Row: TypeAlias = tuple[str, str, bytes, EntryState, bytes, bytes]

_json_decoder = msgspec.json.Decoder(Log)
_header_decoder = msgspec.json.Decoder(Header)
_encode_header = msgspec.json.Encoder().encode
_encode_part = msgspec.json.Encoder().encode
_encode_msgpack = msgspec.msgpack.Encoder().encode
_envelope_decoder = msgspec.msgpack.Decoder(tuple[int, int, bytes])
_body_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[_Row], list[_Row]])


class _Rest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """The parts that few entries have."""

    error: ErrorData | UnsetType = UNSET
    wait: WaitData | UnsetType = UNSET
    mark: MarkData | UnsetType = UNSET


_rest_decoder = msgspec.json.Decoder(_Rest)


def _row(entry: Entry) -> tuple[Any, ...]:
    # MessagePack holds the JSON of the values as it is: transcoding would need the types, and would cost a second format.
    rest = b""
    if entry.error is not UNSET or entry.wait is not UNSET or entry.mark is not UNSET:
        rest = _encode_part(_Rest(entry.error, entry.wait, entry.mark))
    return (entry.id, entry.sig, memoryview(entry.data), entry.state, memoryview(entry.value), rest)


def _entry(row: _Row) -> Entry:
    id_, sig, data, state, value, rest = row
    entry = Entry(id_, sig, NO_DATA if data == b"{}" else Raw(data), state, raw_value(value))
    if rest:
        more = _rest_decoder.decode(rest)
        entry.error, entry.wait, entry.mark = more.error, more.wait, more.mark
    return entry


def _copy(entry: Entry) -> Entry:
    return msgspec.structs.replace(entry)


def _checked(log: Log) -> Log:
    if log.header.format != FORMAT:
        raise LogDecodeError(_other_format(log.header.format))
    if len({entry.id for entry in log.entries}) != len(log.entries):
        seen: set[str] = set()
        twice = next(entry.id for entry in log.entries if entry.id in seen or seen.add(entry.id))
        problem = f"two entries have the id {twice}"
        raise LogDecodeError(problem)
    return log


def _other_format(version: int) -> str:
    return f"it has format {version}, and this release reads format {FORMAT}"


class _PeekHeader(msgspec.Struct):
    format: int


class _Peek(msgspec.Struct):
    header: _PeekHeader


def _problem(error: Exception, data: Any, decode: Any) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    try:
        version = decode(data, type=_Peek).header.format
    except (ValueError, RecursionError, TypeError):
        return f"{error}"
    return _other_format(version) if version != FORMAT else f"{error}"


def _outcome(entry: Entry) -> str:
    if entry.error is not UNSET:
        return f"{entry.error.kind}: {entry.error.type.rpartition(':')[2]} {entry.error.message}".strip()
    return "" if entry.state == "started" else _text(entry.value, 44)


def _text(raw: Raw, limit: int) -> str:
    text = bytes(raw).decode(errors="replace")
    return text if len(text) <= limit else text[: limit - 1] + "…"
