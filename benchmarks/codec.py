"""What do reading and writing a log cost beside msgspec's own time for the same structs?

For JSON the base is msgspec itself on the very same `Log`. For MessagePack it is msgspec on structs with the same
fields, which hold as bytes the JSON that entries hold: msgspec alone would write that as if it were MessagePack.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from floor import counter, yielding
from harness import Case, Figure, Sizes, compare, main
from replay import log_of

from skuld_async import Log

ENTRIES = 100_000
TARGET = 1.5


class PlainEntry(msgspec.Struct, omit_defaults=True):
    """An entry, with bytes in place of JSON."""

    id: str
    sig: str
    data: bytes = b"{}"
    state: str = "executed"
    value: bytes = b"null"


class PlainLog(msgspec.Struct):
    """A log, with bytes in place of JSON."""

    header: bytes
    entries: list[PlainEntry]
    dropped: list[PlainEntry] = []


def plain(log: Log) -> PlainLog:
    entries = [
        PlainEntry(entry.id, entry.sig, bytes(entry.data), entry.state, bytes(entry.value)) for entry in log.entries
    ]
    return PlainLog(msgspec.json.encode(log.header), entries)


def calling(function: Callable[[], object], entries: int) -> Case:
    async def serve() -> int:
        function()
        return entries

    return serve


async def measure(sizes: Sizes) -> list[Figure]:
    log = await log_of(yielding(sizes.count(ENTRIES) // 2), counter.handler(0))
    same = plain(log)
    text, packed, packed_same = log.to_json(), log.to_msgpack(), msgspec.msgpack.encode(same)
    read_json, read_msgpack = msgspec.json.Decoder(Log).decode, msgspec.msgpack.Decoder(PlainLog).decode
    assert Log.from_json(text) == log == Log.from_msgpack(packed)
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "to_json": (lambda: msgspec.json.encode(log), log.to_json),
        "from_json": (lambda: read_json(text), lambda: Log.from_json(text)),
        "to_msgpack": (lambda: msgspec.msgpack.encode(same), log.to_msgpack),
        "from_msgpack": (lambda: read_msgpack(packed_same), lambda: Log.from_msgpack(packed)),
        "to_json and from_json": (
            lambda: read_json(msgspec.json.encode(log)),
            lambda: Log.from_json(log.to_json()),
        ),
        "to_msgpack and from_msgpack": (
            lambda: read_msgpack(msgspec.msgpack.encode(same)),
            lambda: Log.from_msgpack(log.to_msgpack()),
        ),
    }
    figures: list[Figure] = []
    for name, (own, ours) in pairs.items():
        cases = {name: calling(ours, len(log.entries))}
        base = calling(own, len(log.entries))
        figures += await compare(base, cases, sizes.repetitions, {name: TARGET})
    size = len(log.entries)
    return [
        *figures,
        Figure("an entry in JSON", note=f"{len(text) / size:.0f} bytes"),
        Figure("an entry in MessagePack", note=f"{len(packed) / size:.0f} bytes"),
    ]


if __name__ == "__main__":
    main(__file__, "What do reading and writing a log cost beside msgspec alone?", measure)
