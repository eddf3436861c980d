"""The body of the MessagePack form: entries as columns, because most differ in few of their fields.

Values stay the JSON that they are in memory: transcoding them would need their types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from .entry import NO_DATA, NULL, Entry, EntryState, ErrorData, Header, MarkData, WaitData

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Columns(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    ids: list[str]
    names: list[str]
    """The sigs that occur, each once."""
    sigs: list[int]
    """For each entry its index in `names`."""
    data: list[bytes]
    """For each entry its data, empty for ``{}``."""
    values: list[bytes]
    """For each entry its value, empty for null."""
    rest: dict[int, bytes]
    """For the entries that have more, JSON of the rest."""


class _Rest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    state: EntryState = "executed"
    error: ErrorData | UnsetType = UNSET
    wait: WaitData | UnsetType = UNSET
    mark: MarkData | UnsetType = UNSET


_encode = msgspec.msgpack.Encoder().encode
_encode_json = msgspec.json.Encoder().encode
_body_decoder = msgspec.msgpack.Decoder(tuple[bytes, _Columns, _Columns])
_header_decoder = msgspec.json.Decoder(Header)
_rest_decoder = msgspec.json.Decoder(_Rest)


def encode(header: Header, entries: Sequence[Entry], dropped: Sequence[Entry]) -> bytes:
    """The body of a log."""
    return _encode((_encode_json(header), _columns(entries), _columns(dropped)))


def decode(body: bytes) -> tuple[Header, list[Entry], list[Entry]]:
    """Read a body; raises ValueError or LookupError."""
    header, entries, dropped = _body_decoder.decode(body)
    return _header_decoder.decode(header), _entries(entries), _entries(dropped)


def _columns(entries: Sequence[Entry]) -> _Columns:
    index: dict[str, int] = {}
    # Typed Any, because a memoryview is encoded as bytes without being copied.
    data: list[Any] = [b"" if entry.data is NO_DATA else memoryview(entry.data) for entry in entries]
    values: list[Any] = [b"" if entry.value is NULL else memoryview(entry.value) for entry in entries]
    return _Columns(
        [entry.id for entry in entries],
        names=list(dict.fromkeys([entry.sig for entry in entries])),
        sigs=[index.setdefault(entry.sig, len(index)) for entry in entries],
        data=data,
        values=values,
        rest={at: _rest(entry) for at, entry in enumerate(entries) if _has_rest(entry)},
    )


def _has_rest(entry: Entry) -> bool:
    return entry.state != "executed" or entry.wait is not UNSET or entry.mark is not UNSET


def _rest(entry: Entry) -> bytes:
    return _encode_json(_Rest(entry.state, entry.error, entry.wait, entry.mark))


def _entries(columns: _Columns) -> list[Entry]:
    names: list[Any] = columns.names
    if columns.sigs and not 0 <= min(columns.sigs) <= max(columns.sigs) < len(names):
        message = "an entry has no name"
        raise ValueError(message)
    entries = [
        Entry(id_, names[sig], Raw(data) if data else NO_DATA, "executed", Raw(value) if value else NULL)
        for id_, sig, data, value in zip(columns.ids, columns.sigs, columns.data, columns.values, strict=True)
    ]
    for at, part in columns.rest.items():
        entry, rest = entries[at], _rest_decoder.decode(part)
        entry.state, entry.error, entry.wait, entry.mark = rest.state, rest.error, rest.wait, rest.mark
    return entries
