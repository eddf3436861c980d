"""What the tests of a store put into it: small records, each field of which a test may set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from msgspec.structs import replace
from typing_extensions import TypeVar

from skuld_async.durable.records import (
    Append,
    Message,
    NewAnswer,
    NewDeposit,
    NewEvent,
    NewRun,
    RunRecord,
    RunStatus,
    WaitFilter,
    WaitRecord,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from skuld_async.durable.store import Store

AT = 1_700_000_000.25
"""When everything begins, in seconds since the epoch; what follows happens a few seconds later."""

MANY = 1000
"""A limit that no test reaches."""

T = TypeVar("T")


def new_run(id: str = "run", **changes: Any) -> NewRun:
    """A run that begins."""
    run = NewRun(
        id=id,
        workflow="order",
        version="1",
        arguments=b'{"number":1}',
        tags=("blue", "small"),
        paused=False,
        chunk=b"first",
        at=AT,
    )
    return replace(run, **changes)


def write(record: RunRecord, **changes: Any) -> Append:
    """The next append of the owner of a run; it adds to its log, and changes nothing else."""
    item = Append(
        run=record.id,
        worker=record.owner or "nobody",
        token=record.token,
        number=record.appends + 1,
        at=AT + 1,
        chunk=b"next",
    )
    return replace(item, **changes)


def question(run: str = "run", id: str = "0/1", **changes: Any) -> WaitRecord:
    """A question that a run opens."""
    wait = WaitRecord(
        run=run,
        id=id,
        digest="digest",
        sig="shop:Approve",
        question=b'{"amount":5}',
        schema=b'{"type":"string"}',
        opened=AT + 1,
        workflow="order",
        tags=("blue", "small"),
        name="approval",
        assignee="ann",
        deadline=AT + 60,
    )
    return replace(wait, **changes)


def answer(run: str = "run", wait: str = "0/1", **changes: Any) -> NewAnswer:
    """An answer to that question."""
    item = NewAnswer(run=run, wait=wait, digest="digest", body=b'"yes"', by="ann", at=AT + 2)
    return replace(item, **changes)


def deposit(run: str = "run", **changes: Any) -> NewDeposit:
    """An answer for a name."""
    item = NewDeposit(run=run, wait="", name="approval", body=b'"maybe"', by="bot", at=AT + 3)
    return replace(item, **changes)


def event(offset: int) -> NewEvent:
    """Something that watchers are told."""
    return NewEvent(offset=offset, at=AT + offset, data=b'{"done":%d}' % offset)


async def owned(store: Store, id: str = "run", worker: str = "w1", **changes: Any) -> RunRecord:
    """A new run that a worker has."""
    return await store.create(new_run(id, **changes), worker)


async def ready(store: Store, id: str = "run", **changes: Any) -> RunRecord:
    """A new run that the next free worker takes."""
    return await store.create(new_run(id, **changes), None)


async def found(store: Store, id: str = "run") -> RunRecord:
    """A run that is there."""
    record = await store.get(id)
    assert record is not None, f"run {id} is gone"
    return record


async def written(store: Store, item: Append) -> RunRecord:
    """A run after an append."""
    await store.append(item)
    return await found(store, item.run)


async def suspended(store: Store, id: str = "run", *, wake: float | None = None, **changes: Any) -> RunRecord:
    """A run that nobody has, and that waits."""
    record = await owned(store, id)
    return await written(store, write(record, status="suspended", release=True, wake=wake, **changes))


async def settled(store: Store, status: RunStatus, id: str = "run", **changes: Any) -> RunRecord:
    """A run that has ended, or that is parked."""
    if status == "paused":
        return await store.create(new_run(id, paused=True), None)
    record = await owned(store, id)
    fields: dict[RunStatus, dict[str, Any]] = {
        "completed": {"result": b'"done"'},
        "failed": {"error": b'{"type":"ValueError"}'},
        "needs_attention": {"error": b'{"type":"DivergenceError"}', "attention": "divergence"},
        "dead": {"error": b'{"type":"Dead"}'},
    }
    return await written(store, write(record, status=status, release=True, **{**fields.get(status, {}), **changes}))


async def claimed(store: Store, worker: str = "w2", **changes: Any) -> Sequence[RunRecord]:
    """The runs that a worker takes, in the order of the store."""
    options: dict[str, Any] = {"now": AT + 10, "limit": MANY, "workflows": ["order"], **changes}
    return list(await store.claim(worker, **options))


class Whole(NamedTuple):
    """All of a run that can be seen from outside."""

    record: RunRecord | None
    chunks: list[bytes]
    unfolded: list[Message]
    inbox: list[Message]
    messages: list[tuple[Message, str | None]]
    events: list[NewEvent]
    open: list[WaitRecord]
    waits: list[WaitRecord | None]
    """Those that the caller named, open or not."""


async def whole(store: Store, run: str = "run", waits: Sequence[str] = ("0/1", "0/2")) -> Whole:
    """All of a run: what a call that changes nothing leaves as it is."""
    chunks, unfolded = await store.load(run)
    return Whole(
        await store.get(run),
        list(chunks),
        list(unfolded),
        list(await store.inbox(run)),
        list(await store.messages(run)),
        list(await store.events(run, 0, MANY)),
        list(await store.waits(WaitFilter(run=run), None, MANY)),
        [await store.wait(run, wait) for wait in waits],
    )


class Handles:
    """The fixtures of the tests: two handles to one place."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def store(self, connect: Callable[[], Store]) -> AsyncGenerator[Store]:
        """A handle to the place of this test, open."""
        async with connect() as store:
            yield store

    @pytest.fixture
    async def other(self, connect: Callable[[], Store], store: Store) -> AsyncGenerator[Store]:  # noqa: ARG002
        """Another handle to the same place, as another process would have it."""
        async with connect() as other:
            yield other
