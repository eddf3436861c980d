"""DESIGN 6.12: one self-contained document, as JSON and as MessagePack; anything else is a `LogDecodeError`."""

import json
import time
import zlib
from collections.abc import Callable
from enum import Enum
from typing import Any

import jsonschema
import msgspec
import pytest
from msgspec import UNSET

from skuld_async import (
    Clock,
    EffectError,
    Effectful,
    Fresh,
    Log,
    LogDecodeError,
    Return,
    Throw,
    Yield,
    computation,
    mark_loop,
    open_session,
    rerun,
    resume,
    start,
)
from skuld_async.log.entry import FORMAT

from .shop import (
    Approval,
    Charge,
    Comment,
    Declined,
    Notify,
    OutOfStock,
    Placed,
    Refused,
    Shop,
    World,
    cart,
    client,
    completed,
    events,
    failed,
    limit,
    stored,
    suspended,
    total,
)


@computation(name="everything", version="3")
async def everything(turns: int) -> Effectful[str]:
    """One of each: every kind, every kind of error, a loop, named and untyped questions."""
    yield limit.ask()
    yield client.ask()
    for request in (Shop.charge(1), Shop.pay(2), Shop.reserve("book"), Notify("x")):
        try:
            yield request
        except (TimeoutError, Declined, OutOfStock, EffectError, ExceptionGroup):
            yield events.emit(Refused(1))
    try:
        yield Throw(ValueError("thrown"))
    except ValueError:
        yield total.put(3)
    turn = 0
    while turn < turns:
        turn = (yield mark_loop("turn", int, carry=turn)) + 1
        yield cart.modify(lambda items: [*items, "pen"])
        yield Clock.now()
        yield Fresh.uuid()
        yield Approval(turn).named("approval")
        yield events.emit(Placed(turn))
    answer = yield Yield.of({"what": ["next", None]})
    yield Return(str(answer))


HANDLERS = [limit.handler(1), client.handler(object()), cart.handler([]), total.handler(0), events.handler()]


def validator_of(schema: dict[str, Any]) -> Callable[[Any], None]:
    """A function that raises `jsonschema.ValidationError` for what does not fit *schema*, which is checked itself."""
    jsonschema.Draft202012Validator.check_schema(schema)
    validator: Any = jsonschema.Draft202012Validator(schema)
    validate: Callable[[Any], None] = validator.validate
    return validate


async def real_logs() -> list[Log]:
    """The logs of a run with everything in it, at each of its stops."""
    group = ExceptionGroup("two", [ValueError("v"), OutOfStock("pen", left=1)])
    world = World(TimeoutError("slow"), Declined("no", 1), OutOfStock("book"), group)
    handlers = [*world.handlers, *HANDLERS]
    outcome = suspended(await start(everything(2), *handlers, id="run", seed="seed"))
    logs = [outcome.log]
    for answer in ("yes", "no"):
        logs.append(suspended(await resume(everything(2), logs[-1], *handlers, answer=answer)).log)
    logs.append(completed(await resume(everything(2), logs[-1], *handlers, answer={"any": [1.5, None]})).log)
    async with open_session(everything(2), *handlers, log=logs[0]) as session:
        await session.outcome()
        logs.append((await session.cancel("not wanted")).log)
    return logs


async def small_log() -> Log:
    """A log of two entries."""

    @computation(name="small")
    async def small() -> Effectful[str]:
        yield Charge(1)
        yield Return((yield Comment("why?")))

    return suspended(await start(small(), *World().handlers, id="r", seed="s")).log


async def test_both_containers_give_the_same_log_back() -> None:
    """6.12 One self-contained document: JSON and MessagePack give back what was put in, byte for byte."""
    for log in await real_logs():
        text, packed = log.to_json(), log.to_msgpack()
        for again in (Log.from_json(text), Log.from_json(text.decode()), Log.from_msgpack(packed), stored(log)):
            assert again.to_json() == text
            assert again.to_msgpack() == packed
            assert again.entries == log.entries
            assert [wait.ref for wait in again.waits] == [wait.ref for wait in log.waits]


async def test_a_log_with_dropped_entries_and_a_suffix_comes_back() -> None:
    """6.12 What a divergence or a cut left over is part of the document."""
    world = World(TimeoutError("slow"))

    @computation
    async def job() -> Effectful[str]:
        try:
            yield Shop.charge(1)
        except TimeoutError as error:
            yield total.put(9)
            raise LookupError("gone") from error
        yield Return("done")

    log = failed(await start(job(), *world.handlers, total.handler(0))).log
    log = completed(await rerun(job(), log, *world.handlers, total.handler(0))).log

    assert len(log.dropped) == 1
    assert stored(log).to_json() == log.to_json()
    assert stored(log).header == log.header


async def test_the_document_is_readable() -> None:
    """6.12 JSON is readable: names as they are declared, values as plain JSON, what is not there left out."""
    document = json.loads((await small_log()).to_json())

    assert document["header"]["computation"] == "small"
    assert document["entries"][0] == {
        "id": "0/1",
        "sig": "tests.log.shop:Charge",
        "data": {"amount": 1},
        "value": "receipt 1",
    }
    assert document["entries"][1]["wait"]["schema"]["type"] == "string"


async def test_a_real_log_fits_its_schema() -> None:
    """6.12 The JSON Schema of the document is generated, valid, and every real log fits it."""
    schema = Log.json_schema()
    validate = validator_of(schema)
    for log in await real_logs():
        validate(json.loads(log.to_json()))
    broken: list[Any] = [
        {"entries": []},
        {"header": {"format": "0"}, "entries": []},
        {"header": {"format": 0}, "entries": [{"id": 1}]},
    ]
    for document in broken:
        with pytest.raises(jsonschema.ValidationError):
            validate(document)


class Size(Enum):
    SMALL = "s"
    LARGE = "l"


class Order(msgspec.Struct, frozen=True):
    size: Size
    parts: list[Placed | Refused] = []
    note: str | None = None


class WhichOrder(Yield[Order | None], frozen=True):
    pass


async def test_every_open_wait_holds_a_schema_that_tells_good_answers_from_bad_ones() -> None:
    """7.1, 6.12 The answer's JSON Schema is stored with the wait: self-contained, and true of what is accepted."""

    @computation
    async def asks(which: int) -> Effectful[None]:
        yield [Approval(), Comment(), WhichOrder(), Yield.of(1)][which]
        yield Return(None)

    good: list[list[Any]] = [
        ["yes", "no"],
        ["", "x"],
        [None, {"size": "s", "parts": [{"type": "Placed", "number": 1}]}],
        [1, {"a": None}],
    ]
    bad: list[list[Any]] = [["maybe", 1], [None, 3], ["s", {"size": "m"}, {"size": "s", "parts": [{"number": 1}]}], []]
    for which in range(4):
        log = stored(suspended(await start(asks(which))).log)
        schema = json.loads(bytes(log.waits[0].schema))
        validate = validator_of(schema)
        for answer in good[which]:
            validate(answer)
        for answer in bad[which]:
            with pytest.raises(jsonschema.ValidationError):
                validate(answer)


async def test_every_bit_flip_of_a_packed_log_is_found() -> None:
    """6.12 MessagePack is checksummed: every single bit flip is a `LogDecodeError`."""
    packed = (await small_log()).to_msgpack()

    for position in range(len(packed)):
        for bit in range(8):
            flipped = bytearray(packed)
            flipped[position] ^= 1 << bit
            with pytest.raises(LogDecodeError):
                Log.from_msgpack(bytes(flipped))


async def test_every_truncation_is_found() -> None:
    """6.12 Structural damage gives `LogDecodeError`: every truncation of either container."""
    log = await small_log()
    text, packed = log.to_json(), log.to_msgpack()

    for length in range(len(text)):
        with pytest.raises(LogDecodeError):
            Log.from_json(text[:length])
    for length in range(len(packed)):
        with pytest.raises(LogDecodeError):
            Log.from_msgpack(packed[:length])
    for more in (text + b"x", text + b"{}", text + text):
        with pytest.raises(LogDecodeError):
            Log.from_json(more)
    with pytest.raises(LogDecodeError):
        Log.from_msgpack(packed + b"\x00")


def enveloped(body: bytes) -> bytes:
    """*body* in a MessagePack envelope that is whole."""
    return msgspec.msgpack.encode((FORMAT, zlib.crc32(body), body))


def document(header: bytes = b'"format":0', entries: bytes = b"", rest: bytes = b"") -> bytes:
    """A document that would be a log, but for what was put into it."""
    return b'{"header":{%s,"run":"r","seed":"s","computation":"c"},"entries":[%s]%s}' % (header, entries, rest)


def entry(rest: bytes) -> bytes:
    """A document with one entry that holds *rest*."""
    return document(entries=b'{"id":"0/1","sig":"x",%s}' % rest)


HOSTILE: dict[str, bytes] = {
    "nothing": b"",
    "null": b"null",
    "zeros": b"\0" * 5_000_000,
    "spaces": b" " * 5_000_000,
    "a list": b"[]",
    "an empty object": b"{}",
    "no header": b'{"entries":[]}',
    "a header without a run": b'{"header":{"format":0},"entries":[]}',
    "nested lists": b"[" * 100_000,
    "nested objects": b'{"a":' * 100_000,
    "nesting in a value": entry(b'"value":' + b"[" * 100_000 + b"]" * 100_000),
    "nesting in an error": entry(b'"error":' + b'{"kind":"group","children":[' * 100_000 + b"]}" * 100_000),
    "nesting in something unknown": document(rest=b',"more":' + b"[" * 100_000 + b"]" * 100_000),
    "a huge format": document(b'"format":' + b"9" * 100_000),
    "a huge exponent": document(b'"format":1e999999999'),
    "a huge iteration": entry(b'"mark":{"iteration":' + b"9" * 10_000 + b"}"),
    "a huge suffix": document(b'"format":0,"suffix":' + b"9" * 10_000),
    "a format that is text": document(b'"format":"0"'),
    "an id that is a number": document(entries=b'{"id":1,"sig":"x"}'),
    "an entry that is a number": document(entries=b"1"),
    "entries that are none": document().replace(b"[]", b"null"),
    "an unknown state": entry(b'"state":"done"'),
    "an unknown kind of error": entry(b'"error":{"kind":"worse"}'),
    "an unknown field": document(rest=b',"more":1'),
    "an unknown field of an entry": entry(b'"strand":"0"'),
    "duplicate ids": document(entries=b'{"id":"a","sig":"b"},{"id":"a","sig":"c"}'),
    "another format": document(b'"format":7'),
    "no UTF-8": document(b'"format":0,"version":"\xff"'),
    "no UTF-8 in a value": entry(b'"value":"\xff"'),
    "a lone surrogate": document(b'"format":0,"version":"\\ud800"'),
    "two documents": document() * 2,
    "megabytes of entries": document(entries=b'{"id":"a","sig":"b"},' * 100_000),
}


def test_only_what_was_put_in_makes_a_document_hostile() -> None:
    """6.12 Without the damage, the hostile documents of these tests would be logs."""
    assert Log.from_json(document()).entries == []
    assert Log.from_json(entry(b'"state":"executed"')).entries[0].id == "0/1"


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_json_is_refused(name: str) -> None:
    """6.12 Hostile bytes give `LogDecodeError`, nothing else; and quickly."""
    began = time.process_time()
    with pytest.raises(LogDecodeError) as caught:
        Log.from_json(HOSTILE[name])
    assert time.process_time() - began < 5
    assert "Restore it from where it was stored" in str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x90",
        b"\x93\x00\x00\x00",
        b"\x91" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\x93\x00\x00\xc6\xff\xff\xff\xff",
        b"\x00" * 5_000_000,
        enveloped(b""),
        enveloped(b"\x93\xc4\x02{}\x90\x90"),
        enveloped(b"\x91" * 100_000),
        enveloped(b"\xdf\xff\xff\xff\xff"),
        msgspec.msgpack.encode((7, 0, b"")),
        msgspec.msgpack.encode({"header": {"format": 0}}),
        msgspec.msgpack.encode(("0", 0, b"")),
    ],
    ids=lambda data: f"{data[:6]!r} of {len(data)}",
)
def test_hostile_messagepack_is_refused(data: bytes) -> None:
    """6.12 Hostile bytes give `LogDecodeError`, nothing else, also behind a checksum that fits."""
    with pytest.raises(LogDecodeError):
        Log.from_msgpack(data)


@pytest.mark.parametrize("data", [None, 1, {}, [], object()], ids=str)
def test_what_are_no_bytes_is_refused(data: Any) -> None:
    """6.12 What is neither bytes nor text is no log, either."""
    for decode in (Log.from_json, Log.from_msgpack):
        with pytest.raises((LogDecodeError, TypeError)):
            decode(data)


def test_another_format_is_said_to_be_one() -> None:
    """6.12 A log of another format is refused with both numbers, whatever else is in it."""
    for text in (b'{"header":{"format":7}}', b'{"header":{"format":7,"new":1},"chapters":[]}'):
        with pytest.raises(LogDecodeError, match="it has format 7, and this release reads format 0"):
            Log.from_json(text)
    with pytest.raises(LogDecodeError, match="it has format 7, and this release reads format 0"):
        Log.from_msgpack(msgspec.msgpack.encode((7, 0, b"")))


def test_duplicate_ids_are_named() -> None:
    """6.12 Two entries with one id are no log; the message names the id."""
    with pytest.raises(LogDecodeError, match="two entries have the id a"):
        Log.from_json(HOSTILE["duplicate ids"])


async def test_a_message_that_is_no_unicode_can_be_logged() -> None:
    """6.6, 6.12 An error whose text holds a lone surrogate, or whose text cannot be had, is data all the same."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError("no text")

    @computation
    async def fails() -> Effectful[str]:
        yield Return((yield Shop.charge(1)))

    for error in (RuntimeError("\ud800"), ValueError("\ud800"), Mute(), ExceptionGroup("\ud800", [Mute()])):
        world = World(error)
        outcome = failed(await start(fails(), *world.handlers))
        again = failed(await resume(fails(), stored(outcome.log), *world.handlers))
        assert type(again.error) is type(outcome.error)
        assert str(again.error) == str(outcome.error)
        assert world.calls == ["charge 1"]


async def test_a_reason_that_is_no_unicode_can_be_logged() -> None:
    """6.12 The reason of a cancel is free text from outside: whatever it holds, the log can be written."""

    @computation
    async def asks() -> Effectful[str]:
        yield Return((yield Comment()))

    async with open_session(asks()) as session:
        await session.outcome()
        outcome = await session.cancel("\ud800")

    header = stored(outcome.log).header
    assert header.cancelled is not UNSET
    assert header.cancelled.reason == "\\ud800"


async def test_a_log_prints_as_a_table() -> None:
    """6.12 ``print(log)`` shows the entries, for people."""
    lines = str(await small_log()).splitlines()

    assert lines[0] == "run r: small, suspended"
    assert lines[2].split() == ["0/1", "executed", "Charge", '{"amount":1}', '"receipt', '1"']
    assert len(lines) == 4
