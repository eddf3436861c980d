"""Any bytes are a log or a `LogDecodeError`; and going on from whatever is read as a log does nothing else."""

import contextlib
import json
import zlib
from typing import Any

import anyio
import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skuld_async import (
    Cancelled,
    Completed,
    Effectful,
    Failed,
    Log,
    LogDecodeError,
    Return,
    SkuldError,
    Suspended,
    computation,
    mark_loop,
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
    Placed,
    Shop,
    World,
    cart,
    events,
    limit,
    suspended,
    total,
)

each = settings(
    max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


@computation(name="shop")
async def shop(number: int) -> Effectful[str]:
    yield total.put(number)
    yield cart.modify(lambda items: [*items, "pen"])
    try:
        yield Shop.pay(number)
    except Declined:
        yield events.emit(Placed(number))
    yield limit.ask()
    turn = 0
    while turn < 2:
        turn = (yield mark_loop("turn", int, carry=turn)) + 1
        yield Charge(turn)
        yield Comment("why?")
    yield Notify("x")
    decision = yield Approval(number)
    if decision == "no":
        raise ValueError("refused")
    yield Return("done")


async def notify(effect: Notify) -> None:
    await total.put(len(effect.text))


def scope(*errors: Exception) -> list[Any]:
    world = World(*errors)
    return [
        *world.handlers,
        Notify.handled_by(notify),
        total.handler(0),
        cart.handler([]),
        limit.handler(1),
        events.handler(),
    ]


async def _logs() -> list[bytes]:
    """The logs of one run: waiting in its loop, waiting behind it, completed, failed."""
    log = suspended(await start(shop(3), *scope(Declined("no funds")), id="r", seed="s")).log
    logs = [log]
    for _ in range(2):
        log = suspended(await resume(shop(3), log, *scope(), answer="because")).log
    logs += [log, *[(await resume(shop(3), log, *scope(), answer=answer)).log for answer in ("yes", "no")]]
    return [one.to_json() for one in logs]


LOGS = anyio.run(_logs)


async def _goes_on(log: Log) -> None:
    """Going on from *log* ends in an outcome whose log can be read, or in a `SkuldError`."""
    verbs: list[tuple[Any, dict[str, Any]]] = [
        (resume, {}),
        (resume, {"allow_divergence": True}),
        (resume, {"answer": "yes"}),
        (resume, {"answer": "because"}),
        (rerun, {}),
    ]
    for verb, options in verbs:
        stood = log.to_json()
        waits = b"body-scope" in stood
        with contextlib.suppress(SkuldError), anyio.move_on_after(0.01 if waits else 10) as patience:
            outcome = await verb(shop(3), log, *scope(), **options)
            assert isinstance(outcome, Completed | Suspended | Failed | Cancelled)
            assert Log.from_json(outcome.log.to_json()).to_json() == outcome.log.to_json()
        assert waits or not patience.cancelled_caught, "only a scope of the body may be waited for"
        assert log.to_json() == stood


@each
@given(st.binary(max_size=200))
def test_any_bytes_are_a_log_or_a_decode_error(data: bytes) -> None:
    """Any bytes decode to a log or to `LogDecodeError`, in both containers."""
    for decode in (Log.from_json, Log.from_msgpack):
        with contextlib.suppress(LogDecodeError):
            decode(data)


@each
@given(st.binary(max_size=200))
def test_any_body_in_a_whole_envelope_is_a_log_or_a_decode_error(body: bytes) -> None:
    """Any bytes behind a checksum that fits decode to a log or to `LogDecodeError`."""
    with contextlib.suppress(LogDecodeError):
        Log.from_msgpack(msgspec.msgpack.encode((FORMAT, zlib.crc32(body), body)))


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@each
@given(_json)
def test_any_json_is_a_log_or_a_decode_error(document: Any) -> None:
    """Any JSON, also in the place of a log's parts, decodes to a log or to `LogDecodeError`."""
    header = {"format": 0, "run": "r", "seed": "s", "computation": "c"}
    for data in (document, {"header": document}, {"header": header, "entries": document}):
        text = json.dumps(data).encode()
        with contextlib.suppress(LogDecodeError):
            Log.from_json(text)


@st.composite
def _damaged(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of *originals* with some of its bytes changed, removed, or repeated elsewhere."""
    data = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(0, 12))
        piece = draw(
            st.binary(max_size=4)
            | st.sampled_from([bytes(data[at : at + length]), b"0", b"null", b'"', b"{}", b"\xff"])
        )
        data[at : at + draw(st.integers(0, 4))] = piece
    return bytes(data)


@each
@given(_damaged(LOGS))
async def test_a_damaged_document_is_a_log_that_goes_on_or_an_error(data: bytes) -> None:
    """A valid log with changed bytes: if it is still read as a log, resuming it gives an outcome or a `SkuldError`."""
    try:
        log = Log.from_json(data)
    except LogDecodeError:
        return
    await _goes_on(log)


_OBJECT: type[Any] = dict
_ARRAY: type[Any] = list
"""Named, because type checkers would take what is in them for unknown."""


def _nodes(tree: Any) -> list[tuple[Any, Any]]:
    """Each place in a JSON tree, as its container and its key."""
    keys: list[Any] = [*tree] if isinstance(tree, _OBJECT) else []
    keys += range(len(tree)) if isinstance(tree, _ARRAY) else ()
    return [place for key in keys for place in ((tree, key), *_nodes(tree[key]))]


def _fields(node: Any) -> dict[str, Any]:
    fields: dict[str, Any] = node if isinstance(node, _OBJECT) else {}
    return fields


_WORDS = [
    "started",
    "executed",
    "discarded",
    "running",
    "suspended",
    "completed",
    "failed",
    "cancelled",
    "0/1",
    "0/9~1",
]
_KINDS = ["declared", "domain", "builtin", "other", "group", "result", "body-scope", "run-cancel"]


@st.composite
def _edited(draw: st.DrawFn) -> bytes:
    """A log with some of its values replaced, removed, repeated or swapped."""
    tree = json.loads(draw(st.sampled_from(LOGS)))
    for _ in range(draw(st.integers(1, 3))):
        container, key = draw(st.sampled_from(_nodes(tree)))
        change = draw(st.sampled_from(["replace", "remove", "swap", "repeat", "error"]))
        if change == "replace":
            container[key] = draw(_json | st.sampled_from(_WORDS))
        elif change == "remove":
            del container[key]
        elif change == "swap":
            other, place = draw(st.sampled_from(_nodes(tree) or [(container, key)]))
            container[key], other[place] = json.loads(json.dumps(other[place])), json.loads(json.dumps(container[key]))
        elif change == "repeat" and isinstance(key, int):
            container.append(json.loads(json.dumps(container[key])))
        elif change == "error" and isinstance(key, int):
            type_name = draw(st.sampled_from(["builtins:OSError", "x:Y", ""]))
            error = {"kind": draw(st.sampled_from(_KINDS)), "type": type_name}
            container[key] = {"id": "0/1", "sig": "x", **_fields(container[key]), "state": "discarded", "error": error}
    return json.dumps(tree).encode()


@each
@given(_edited())
async def test_an_edited_document_is_a_log_that_goes_on_or_an_error(data: bytes) -> None:
    """A valid log with edited values: if it is still read as a log, resuming it gives an outcome or a `SkuldError`."""
    try:
        log = Log.from_json(data)
    except LogDecodeError:
        return
    await _goes_on(log)


def _bodies() -> list[bytes]:
    return [msgspec.msgpack.decode(Log.from_json(data).to_msgpack())[2] for data in LOGS]


@each
@given(_damaged(_bodies()))
async def test_a_damaged_body_in_a_whole_envelope_is_a_log_that_goes_on_or_an_error(body: bytes) -> None:
    """A MessagePack log that was changed by someone who knows its checksum does no more harm than a JSON one."""
    try:
        log = Log.from_msgpack(msgspec.msgpack.encode((FORMAT, zlib.crc32(body), body)))
    except LogDecodeError:
        return
    await _goes_on(log)


@each
@given(st.sampled_from(LOGS), st.data())
async def test_values_that_are_no_json_are_found_when_they_are_read(original: bytes, data: st.DataObject) -> None:
    """What is no JSON in a value is a `LogDecodeError`; in memory it is a `SkuldError` of the effect that reads it."""
    log = Log.from_json(original)
    for _ in range(data.draw(st.integers(1, 3))):
        entry = data.draw(st.sampled_from(log.entries))
        junk = msgspec.Raw(
            data.draw(
                st.binary(min_size=1, max_size=6) | st.sampled_from([b"\xff", b"{", b"[" * 5000, b"1e999", b"nul"])
            )
        )
        if data.draw(st.booleans()):
            entry.data = junk
        else:
            entry.value = junk
    with contextlib.suppress(LogDecodeError):
        log = Log.from_msgpack(log.to_msgpack())
    for verb in (resume, rerun):
        call: Any = verb
        with contextlib.suppress(SkuldError):
            await call(shop(3), log, *scope())
