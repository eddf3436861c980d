"""PostgresStore: what happens when two transactions want the same run at the same time."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from skuld_async.durable.errors import WaitTakenError
from skuld_async.durable.records import Closing, NewAnswer, RunRecord
from skuld_async.durable.store import Answered, Store
from skuld_async.stores.postgres import PostgresStore
from skuld_async.testing.stores.samples import (
    AT,
    answer,
    claimed,
    deposit,
    found,
    owned,
    question,
    ready,
    settled,
    write,
)

from .postgres_parts import asyncpg, new_schema

PATIENCE = 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def store(postgresql: str) -> AsyncGenerator[PostgresStore]:
    async with PostgresStore(postgresql, schema=new_schema()) as store:
        yield store


@pytest.fixture
async def other(postgresql: str, store: PostgresStore) -> AsyncGenerator[PostgresStore]:
    async with PostgresStore(postgresql, schema=store._schema.name) as other:
        yield other


@asynccontextmanager
async def held(store: PostgresStore, uri: str, statement: str) -> AsyncGenerator[Callable[[], Awaitable[None]]]:
    """A transaction that has done *statement*, and commits when this is left; gives what waits until somebody waits."""
    connection = await asyncpg.connect(uri)
    watcher = await asyncpg.connect(uri)

    async def awaited() -> None:
        with anyio.fail_after(PATIENCE):
            while not await watcher.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE $1 = ANY(pg_blocking_pids(pid))",
                connection.get_server_pid(),
            ):
                pass

    try:
        async with connection.transaction():
            await connection.execute(store._schema.sql(statement))
            yield awaited
    finally:
        await connection.close()
        await watcher.close()


ANSWERED = """
    UPDATE SCHEMA.runs SET inbox = inbox + 1;
    UPDATE SCHEMA.waits SET state = 'answered', answer = '"yes"';
    INSERT INTO SCHEMA.messages VALUES ('run', 1, 'answer', '0/1', '', '"yes"', 'ann', 1)
"""


async def asking(store: Store) -> RunRecord:
    await store.append(write(await owned(store), opens=(question(),)))
    return await found(store)


async def test_an_append_sees_an_answer_that_was_committed_while_it_waited(
    postgresql: str, store: PostgresStore
) -> None:
    """It had begun before the answer was there to see, and is refused all the same."""
    record = await asking(store)
    raised: list[WaitTakenError] = []

    async def close() -> None:
        try:
            await store.append(write(record, closes=(Closing("0/1", answered=False),)))
        except WaitTakenError as error:
            raised.append(error)

    async with anyio.create_task_group() as group, held(store, postgresql, ANSWERED) as awaited:
        group.start_soon(close)
        await awaited()

    assert [(error.run, error.wait) for error in raised] == [("run", "0/1")]
    assert (await found(store)).appends == record.appends


async def test_a_release_sees_a_message_that_was_committed_while_it_waited(
    postgresql: str, store: PostgresStore
) -> None:
    """A run that is given back is ready at once where its owner has not seen the last message."""
    record = await asking(store)
    async with anyio.create_task_group() as group, held(store, postgresql, ANSWERED) as awaited:
        group.start_soon(store.append, write(record, status="suspended", release=True))
        await awaited()

    after = await found(store)
    assert (after.status, after.wake, after.inbox, after.owner) == ("running", 0.0, 1, None)


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (ANSWERED, "conflict"),
        ("UPDATE SCHEMA.runs SET appends = 3; UPDATE SCHEMA.waits SET state = 'closed'", "closed"),
        ("UPDATE SCHEMA.runs SET appends = 3; UPDATE SCHEMA.waits SET digest = 'another'", "unknown"),
        ("UPDATE SCHEMA.runs SET appends = 3", "accepted"),
        ("DELETE FROM SCHEMA.waits; DELETE FROM SCHEMA.runs", "unknown"),
    ],
    ids=["answered", "closed", "asked again", "appended", "deleted"],
)
async def test_an_answer_sees_what_was_committed_while_it_waited(
    postgresql: str, store: PostgresStore, statement: str, expected: Answered
) -> None:
    """It is compared with the question as it then is, not as it was when the answer came."""
    await asking(store)
    became: list[Answered] = []

    async def give() -> None:
        became.append(await store.answer(answer(body=b'"no"')))

    async with anyio.create_task_group() as group, held(store, postgresql, statement) as awaited:
        group.start_soon(give)
        await awaited()

    assert became == [expected]


async def test_a_run_is_deleted_with_the_messages_that_come_meanwhile(postgresql: str, store: PostgresStore) -> None:
    """Nothing is left of a run that was sent something while it was deleted."""
    await ready(store)
    async with anyio.create_task_group() as group, held(store, postgresql, ANSWERED) as awaited:
        group.start_soon(store.delete, "run")
        await awaited()

    assert (await store.get("run"), await store.messages("run")) == (None, [])


async def test_a_claim_does_not_wait(postgresql: str, store: PostgresStore) -> None:
    """A run whose row somebody holds is passed over, for now."""
    await ready(store, "a")
    await ready(store, "b")
    async with held(store, postgresql, "SELECT FROM SCHEMA.runs WHERE id = 'a' FOR UPDATE"):
        with anyio.fail_after(PATIENCE):
            assert [record.id for record in await claimed(store)] == ["b"]
    assert [record.id for record in await claimed(store)] == ["a"]


async def test_one_of_many_answers_is_taken(store: PostgresStore, other: PostgresStore) -> None:
    """Of answers that come at once, from several processes, one is accepted for each question; all see the same one."""
    runs = [f"run-{at}" for at in range(40)]
    for run in runs:
        await store.append(write(await owned(store, run), opens=(question(run), question(run, "0/2"))))
    became: dict[tuple[str, str], list[Answered]] = {(run, wait): [] for run in runs for wait in ("0/1", "0/2")}

    async def give(mine: Store, item: NewAnswer) -> None:
        became[item.run, item.wait].append(await mine.answer(item))

    async with anyio.create_task_group() as group:
        for at, (run, wait) in enumerate(became):
            for mine in (store, other):
                for body in (b'"%d"' % (at % 3), b'"no"'):
                    group.start_soon(give, mine, answer(run, wait, body=body))

    expected: list[Answered] = ["accepted", "conflict", "conflict", "repeated"]
    assert {key: sorted(results) for key, results in became.items()} == dict.fromkeys(became, expected)
    for run in runs:
        assert [(one.number, one.wait) for one in await store.inbox(run)] in (
            [(1, "0/1"), (2, "0/2")],
            [(1, "0/2"), (2, "0/1")],
        )


async def test_an_answer_or_the_end_of_its_wait(store: PostgresStore, other: PostgresStore) -> None:
    """Where both come at once, one of them wins, and the other one is told."""
    records = [await owned(store, f"run-{at}") for at in range(60)]
    for record in records:
        await store.append(write(record, opens=(question(record.id),)))
    ended: dict[str, bool] = {}
    became: dict[str, Answered] = {}

    async def end(run: str) -> None:
        try:
            await store.append(write(await found(store, run), closes=(Closing("0/1", answered=False),)))
        except WaitTakenError:
            ended[run] = False
        else:
            ended[run] = True

    async def give(run: str) -> None:
        became[run] = await other.answer(answer(run))

    async with anyio.create_task_group() as group:
        for record in records:
            group.start_soon(end, record.id)
            group.start_soon(give, record.id)

    assert became == {run: "closed" if is_ended else "accepted" for run, is_ended in ended.items()}
    assert len(became) == len(records)


async def test_a_deposit_that_is_sent_twice_at_once_is_one(store: PostgresStore, other: PostgresStore) -> None:
    """The same one, from two processes; and a cancel asked for by several is one message."""
    await owned(store)
    numbers: list[int | None] = []

    async def leave(mine: Store) -> None:
        numbers.append(await mine.deposit(deposit()))

    async with anyio.create_task_group() as group:
        for mine in (store, other) * 5:
            group.start_soon(leave, mine)
            group.start_soon(mine.cancel, "run", "enough", "ann", AT)

    assert len(set(numbers)) == 1
    assert sorted(one.kind for one in await store.inbox("run")) == ["cancel", "deposit"]


async def test_a_run_that_is_created_twice_at_once_is_one(store: PostgresStore, other: PostgresStore) -> None:
    """Of several who start the same run one has it, and all are told which."""
    seen: list[RunRecord] = []

    async def create(mine: Store, worker: str) -> None:
        seen.extend([await owned(mine, f"run-{at}", worker) for at in range(5)])

    async with anyio.create_task_group() as group:
        for at in range(6):
            group.start_soon(create, (store, other)[at % 2], f"w{at}")

    owners: dict[str, set[Any]] = {}
    for record in seen:
        owners.setdefault(record.id, set()).add(record.owner)
    assert [len(one) for one in owners.values()] == [1] * 5
    assert (await store.load("run-0"))[0] == [b"first"]


async def test_parked_runs_are_let_go_once(store: PostgresStore, other: PostgresStore) -> None:
    """Several workers that know the workflow now count each run once between them."""
    for at in range(20):
        await settled(store, "needs_attention", f"run-{at}")
    counts: list[int] = []

    async def requeue(mine: Store) -> None:
        counts.append(await mine.requeue_known("divergence", ["order"], AT))

    async with anyio.create_task_group() as group:
        for mine in (store, other) * 3:
            group.start_soon(requeue, mine)

    assert sum(counts) == len(range(20))
