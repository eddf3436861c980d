"""States: a run with all that belongs to it, as a value; and what a line says to lead from one to the next."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
from msgspec import Raw
from msgspec.structs import FieldInfo, fields, replace

from skuld_async.durable.records import Message, NewEvent, RunRecord, WaitRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .lines import Line

R = TypeVar("R", bound=msgspec.Struct)

_BASE64 = "_base64"
"""Ends the name of a field whose bytes are not JSON in one line; or that has none: the bytes ``null`` are JSON."""


class State(msgspec.Struct, frozen=True):
    """A run, as its file has it."""

    record: RunRecord
    lease: tuple[str, int, int] | None
    """Worker, token and number of the last append."""
    chunks: Sequence[bytes]
    messages: Sequence[tuple[Message, str | None]]
    waits: Mapping[str, WaitRecord]
    events: Sequence[NewEvent]


def is_rewritten(before: State, after: State) -> bool:
    """Whether the log was replaced, not added to."""
    return len(after.chunks) < len(before.chunks) or any(
        one is not other for one, other in zip(before.chunks[:1], after.chunks, strict=False)
    )


def parts_between(before: State | None, after: State) -> dict[str, object]:
    """What a line says that leads from *before*, or from nothing, to *after*, where the log was only added to."""
    trim = after.events[0].offset - 1 if after.events else after.record.events
    is_trimmed = before is not None and bool(before.events) and before.events[0].offset <= trim
    waits: Mapping[str, WaitRecord] = before.waits if before else {}
    told = before.messages if before else ()
    fates = [fate for _, fate in told] + [None] * (len(after.messages) - len(told))
    chunks = after.chunks[len(before.chunks) if before else 0 :]
    are_text = all(map(_is_text, chunks))
    parts: dict[str, object] = {
        "run": _difference(before.record if before else None, after.record),
        "lease": after.lease if before is None or after.lease != before.lease else None,
        "log": [Raw(chunk) for chunk in chunks] if are_text else None,
        "log_base64": None if are_text else chunks,
        "waits": [
            {"id": wait.id} | _difference(waits.get(wait.id), wait)
            for wait in after.waits.values()
            if wait is not waits.get(wait.id)
        ],
        "messages": [_difference(None, message) for message, _ in after.messages[len(told) :]],
        "folded": {
            message.number: fate for (message, fate), known in zip(after.messages, fates, strict=True) if fate != known
        },
        "events": [
            _difference(None, event) for event in after.events if before is None or event.offset > before.record.events
        ],
        "trim": trim if is_trimmed else 0,
    }
    return {name: part for name, part in parts.items() if part}


def after_line(before: State | None, line: Line) -> State:
    """The state that *line* leads to."""
    record = _changed(RunRecord, before.record if before else None, line.run)
    waits = dict(before.waits) if before else {}
    for changes in line.waits:
        wait = _changed(WaitRecord, waits.get(msgspec.json.decode(changes["id"], type=str)), changes)
        waits[wait.id] = wait
    messages = [*(before.messages if before else ()), *((_changed(Message, None, new), None) for new in line.messages)]
    events = [*(before.events if before else ()), *(_changed(NewEvent, None, new) for new in line.events)]
    return State(
        record=record,
        lease=line.lease or (before.lease if before else None),
        chunks=[*(before.chunks if before else ()), *map(bytes, line.log or line.log_base64 or ())],
        messages=[(message, line.folded.get(message.number, fate)) for message, fate in messages],
        waits=waits,
        events=[event for event in events if event.offset > line.trim],
    )


@cache
def _fields(kind: type[msgspec.Struct]) -> tuple[FieldInfo, ...]:
    return fields(kind)  # reads the annotations each time


def _is_text(data: bytes) -> bool:
    """Whether *data* is JSON that comes back unchanged from a place in a line of JSON."""
    if b"\n" in data or b"\r" in data:
        return False
    try:
        data.decode()
        return bytes(msgspec.json.decode(data, type=Raw)) == data
    except (UnicodeDecodeError, msgspec.DecodeError):
        return False


def _difference(before: R | None, after: R) -> dict[str, object]:
    """The fields of *after* that *before*, or what a new one has by default, has otherwise."""
    found: dict[str, object] = {}
    for field in _fields(type(after)):
        value: Any = getattr(after, field.name)
        if value != (field.default if before is None else getattr(before, field.name)):
            if field.type in {bytes, bytes | None}:
                if value is not None and _is_text(value):
                    found[field.name] = Raw(value)
                else:
                    found[field.name + _BASE64] = value
            else:
                found[field.name] = value
    return found


def _changed(kind: type[R], before: R | None, changes: Mapping[str, Raw]) -> R:
    """*before*, or a new one, with the fields that *changes* names."""
    values: dict[str, Any] = {}
    for field in _fields(kind):
        if field.type in {bytes, bytes | None}:
            if field.name in changes:
                values[field.name] = bytes(changes[field.name])
            elif field.name + _BASE64 in changes:
                values[field.name] = msgspec.json.decode(changes[field.name + _BASE64], type=bytes | None)
        elif field.name in changes:
            values[field.name] = msgspec.json.decode(changes[field.name], type=field.type)
    return kind(**values) if before is None else replace(before, **values)
