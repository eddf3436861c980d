r"""Lines: how what is written to the file of a run is told from what was only begun.

Each line is a JSON object that begins with the checksum of the rest of it, and its number in the file::

    {"crc":"6c1b9c62","n":2,"run":{"appends":2},"log":[...]}\n

A process or a machine that ends while it writes leaves a last line that is incomplete, or holds what the disk held
before. Nobody was told that it is written, so it is left out. Any other line that is not as it was written is damage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from skuld_async.durable.errors import StoreSchemaError

from .errors import DamagedFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT = 1
"""Stands in the first line of each file."""

_BEGIN = b'{"crc":"'
_HEAD = len(_BEGIN) + len('01234567",')


class Line(msgspec.Struct):
    """What a line says; every part of it is optional."""

    n: int
    format: int = FORMAT
    run: dict[str, msgspec.Raw] = {}
    """Fields of the record that have changed."""
    lease: tuple[str, int, int] | None = None
    """Worker, token and number of the last append."""
    log: list[msgspec.Raw] | None = None
    """Chunks that were added."""
    log_base64: list[bytes] | None = None
    """In place of *log*, where one is not JSON in one line."""
    waits: list[dict[str, msgspec.Raw]] = []
    """Of each one that has changed: its id, and the fields that have."""
    messages: list[dict[str, msgspec.Raw]] = []
    """New ones."""
    folded: dict[int, str] = {}
    """What became of messages, by their numbers."""
    events: list[dict[str, msgspec.Raw]] = []
    """New ones."""
    trim: int = 0
    """Events up to this offset were removed."""


_decode = msgspec.json.Decoder(Line).decode


def line_of(number: int, parts: Mapping[str, object]) -> bytes:
    """A line that says *parts*."""
    head = {"n": number, "format": FORMAT} if number == 1 else {"n": number}
    body = msgspec.json.encode(head | dict(parts))[1:]
    return b'%b%08x",%b\n' % (_BEGIN, crc32(body), body)


def read_lines(file: str, data: bytes) -> tuple[list[Line], int]:
    """What is written in *data*, and how many of its bytes that takes: behind them is a line that was only begun.

    Raises:
        DamagedFileError: A line that is not the last one does not hold what was written to it.
        StoreSchemaError: It was written by a later release.
    """
    lines: list[Line] = []
    begin = 0
    while (end := data.find(b"\n", begin) + 1) > 0:
        line = data[begin:end]
        if line[:_HEAD] != b'%b%08x",' % (_BEGIN, crc32(line[_HEAD:-1])):
            if end < len(data):
                raise DamagedFileError(file, len(lines) + 1, "its checksum is not that of its content")
            break
        lines.append(_read(file, len(lines) + 1, line))
        begin = end
    return lines, begin


def _read(file: str, number: int, data: bytes) -> Line:
    try:
        line = _decode(data)
    except msgspec.DecodeError as error:
        raise DamagedFileError(file, number, f"it is not what this release writes: {error}") from None
    if line.format != FORMAT:
        way_out = "Open it with the release that wrote it, or a later one"
        raise StoreSchemaError(file, f"it is written in format {line.format}, and this release knows {FORMAT}", way_out)
    if line.n != number:
        raise DamagedFileError(file, number, f"it is the line that was written as number {line.n}")
    return line
