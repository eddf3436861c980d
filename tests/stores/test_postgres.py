"""PostgresStore: group commit, leases among several stores, and what is announced to whom."""

import subprocess
import sys
from collections import Counter
from collections.abc import AsyncGenerator

import anyio
import anyio.lowlevel
import pytest
from msgspec.structs import replace

from skuld_async.durable.errors import LeaseLostError, StoreClosedError, StoreError
from skuld_async.durable.records import RunRecord
from skuld_async.durable.store import Store
from skuld_async.stores.postgres import PostgresStore
from skuld_async.testing.stores.samples import (
    AT,
    MANY,
    answer,
    claimed,
    event,
    found,
    owned,
    question,
    ready,
    suspended,
    write,
)

from .postgres_parts import WatchedPool, asyncpg, new_schema, watched

PATIENCE = 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def store(postgresql: str) -> AsyncGenerator[PostgresStore]:
    async with PostgresStore(postgresql, schema=new_schema()) as store:
        yield store


async def many_owned(store: Store, number: int) -> list[RunRecord]:
    return [await owned(store, f"run-{at:04}") for at in range(number)]


async def append_all(store: Store, records: list[RunRecord], **changes: object) -> dict[str, Exception]:
    """An append to each run, all at once; gives what was raised."""
    raised: dict[str, Exception] = {}

    async def one(record: RunRecord) -> None:
        try:
            await store.append(write(record, **changes))
        except StoreError as error:
            raised[record.id] = error

    async with anyio.create_task_group() as group:
        for record in records:
            group.start_soon(one, record)
    return raised


@pytest.mark.parametrize("number", [10, 100])
async def test_concurrent_appends_share_a_commit(postgresql: str, number: int) -> None:
    """What comes together is written with one statement, however much that is; only the first one goes alone."""
    async with watched(postgresql) as (store, pool):
        records = await many_owned(store, number)
        pool.statements.clear()
        assert await append_all(store, records) == {}

        assert len(pool.statements) == len(["the first one", "the others"])
        assert {(await found(store, record.id)).appends for record in records} == {2}
        assert [(await store.load(record.id))[0] for record in records] == [[b"first", b"next"]] * number


async def test_concurrent_appends_of_all_kinds_share_commits(postgresql: str) -> None:
    """Appends that ask questions or bring events are one statement for each shape."""
    async with watched(postgresql) as (store, pool):
        records = await many_owned(store, 40)
        pool.statements.clear()
        async with anyio.create_task_group() as group:
            for record in records[:20]:
                group.start_soon(store.append, write(record, opens=(question(record.id),)))
            for record in records[20:]:
                group.start_soon(store.append, write(record, events=(event(1),)))

        assert len(pool.statements) <= len(["the first one", "questions", "events", "what came late"])
        assert all([await store.wait(record.id, "0/1") for record in records[:20]])
        assert all([await store.events(record.id, 0, MANY) for record in records[20:]])


async def test_an_append_alone_is_one_round_trip(postgresql: str) -> None:
    """Appends, answers and new runs take one statement each, in a transaction of its own."""
    async with watched(postgresql) as (store, pool):
        pool.statements.clear()
        record = await owned(store)
        await store.append(write(record))
        await store.append(write(record, number=3, opens=(question(),), status="suspended", release=True))
        await store.answer(answer())

        assert len(pool.statements) == len(["create", "append", "append", "answer"])


@pytest.mark.parametrize("shape", ["plain", "full"])
@pytest.mark.parametrize("number", [5, 50])
async def test_a_lost_lease_fails_alone(store: PostgresStore, number: int, shape: str) -> None:
    """Of appends that share a commit only those are refused whose run has another owner; the others are written."""
    records = await many_owned(store, number)
    lost = records[1::4]
    await append_all(store, lost, chunk=None, release=True, wake=AT)
    assert len(await claimed(store, "w2", limit=MANY)) == len(lost)
    late = [replace(record, appends=2) if record in lost else record for record in records]
    raised = await append_all(store, late, **({} if shape == "plain" else {"events": (event(1),)}))

    assert sorted(raised) == [record.id for record in lost]
    assert {type(error) for error in raised.values()} == {LeaseLostError}
    for record in records:
        assert len((await store.load(record.id))[0]) == (1 if record in lost else 2)


@pytest.mark.parametrize("number", [5, 50])
async def test_what_the_database_refuses_fails_alone(store: PostgresStore, number: int) -> None:
    """A batch that fails is written one by one: only the append that the database cannot take is refused."""
    records = await many_owned(store, number)
    raised: list[BaseException] = []

    async def one(record: RunRecord, name: str) -> None:
        try:
            await store.append(write(record, opens=(question(record.id, name=name),)))
        except asyncpg.PostgresError as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        for record in records:
            group.start_soon(one, record, "bad\0name" if record is records[3] else "good")

    assert len(raised) == 1
    assert [(await found(store, record.id)).appends for record in records] == [2, 2, 2, 1, *[2] * (number - 4)]


async def test_what_the_driver_refuses_fails_alone(store: PostgresStore) -> None:
    """The same where the driver cannot even send it."""
    records = await many_owned(store, 30)
    raised: list[BaseException] = []

    async def one(record: RunRecord, token: int) -> None:
        try:
            await store.append(write(record, token=token))
        except asyncpg.DataError as error:
            raised.append(error)

    async with anyio.create_task_group() as group:
        for record in records:
            group.start_soon(one, record, 2**70 if record is records[3] else 1)

    assert len(raised) == 1
    assert Counter([(await found(store, record.id)).appends for record in records]) == {2: 29, 1: 1}


async def test_a_caller_that_is_cancelled_disturbs_nobody(store: PostgresStore) -> None:
    """An append that is given up takes none of those with it that it would have shared a commit with."""
    records = await many_owned(store, 30)
    async with anyio.create_task_group() as group:
        for record in records[:15]:
            group.start_soon(store.append, write(record))
        async with anyio.create_task_group() as given_up:
            for record in records[15:]:
                given_up.start_soon(store.append, write(record))
            await anyio.wait_all_tasks_blocked()
            given_up.cancel_scope.cancel()

    assert {(await found(store, record.id)).appends for record in records[:15]} == {2}
    assert await append_all(store, records[15:]) == {}  # which is right whether they were written or not
    assert {(await found(store, record.id)).appends for record in records[15:]} == {2}


async def test_an_append_alone_may_be_given_up(store: PostgresStore) -> None:
    """Whether it was written or not: the same append again is right, and the log has it once."""
    record = await owned(store)
    for number in range(2, 22):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(store.append, write(record, number=number))
                await anyio.lowlevel.checkpoint()
                if number % 2:
                    await anyio.sleep(0.0002)  # it may be on its way by then
                scope.cancel()
        await store.append(write(record, number=number))

    assert len((await store.load("run"))[0]) == len(range(1, 22))


async def test_no_two_stores_take_the_same_run(postgresql: str, store: PostgresStore) -> None:
    """Claims of several stores at once: each run goes to one of them, and none is left."""
    for at in range(200):
        await ready(store, f"run-{at}", workflow=f"order-{at % 3}")
    workflows = ["order-0", "order-1", "order-2"]
    taken: list[tuple[str, str]] = []

    async def take(worker: str) -> None:
        async with PostgresStore(postgresql, schema=store._schema.name) as mine:
            while await mine.next_wake(workflows) is not None:
                for record in await claimed(mine, worker, limit=7, workflows=workflows):
                    assert (record.owner, record.token) == (worker, 1)
                    taken.append((record.id, worker))

    async with anyio.create_task_group() as group:
        for worker in ["w1", "w2", "w3", "w4"]:
            group.start_soon(take, worker)

    assert sorted(run for run, _ in taken) == sorted(f"run-{at}" for at in range(200))
    assert len({worker for _, worker in taken}) > 1
    assert {(run, (await found(store, run)).owner) for run, _ in taken} == set(taken)


async def test_orphans_are_taken_once(postgresql: str, store: PostgresStore) -> None:
    """The same for the runs of a dead worker, which several others find dead at the same time."""
    await many_owned(store, 60)
    taken: list[str] = []

    async def take(worker: str) -> None:
        async with PostgresStore(postgresql, schema=store._schema.name) as mine:
            for _ in range(4):
                taken.extend([record.id for record in await claimed(mine, worker, limit=20, dead=["w1"])])

    async with anyio.create_task_group() as group:
        for worker in ["w2", "w3", "w4"]:
            group.start_soon(take, worker)

    assert sorted(taken) == sorted(set(taken))
    assert len(taken) == len(range(60))


async def test_plain_appends_are_not_announced(store: PostgresStore) -> None:
    """A listener is woken by what others have to know, and not by each step of a run."""
    record = await owned(store)
    async with store.listen() as listener:
        await store.append(write(record))
        await append_all(store, await many_owned(store, 30))
        await ready(store, "other")

        assert await listener.changed(PATIENCE) == {"other"}


async def test_listeners_share_a_connection(store: PostgresStore, postgresql: str) -> None:
    """However many listen in a process, the database sees one of them."""
    async with store.listen(), store.listen(), store.listen():
        connection = await asyncpg.connect(postgresql)
        try:
            listening = await connection.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE query = $1", f'LISTEN "{store._schema.channel}"'
            )
        finally:
            await connection.close()

    assert listening == 1


async def test_an_id_too_long_for_a_message_is_announced_as_unknown(store: PostgresStore) -> None:
    """Its payload has less than 8000 bytes: of a longer id it is said that some run has changed."""
    async with store.listen() as listener:
        await ready(store, "x" * 9000)

        assert await listener.changed(PATIENCE) is None


async def test_a_pool_that_is_given_stays_open(postgresql: str) -> None:
    """It belongs to the caller, who can use it when the store is left; all its connections are free then."""
    async with asyncpg.create_pool(postgresql, min_size=1, max_size=4) as pool:
        for _ in range(2):
            async with PostgresStore(postgresql, pool=pool, schema=new_schema()) as store:
                await append_all(store, await many_owned(store, 10))
            assert pool.get_idle_size() == pool.get_size()
        assert await pool.fetchval("SELECT 1") == 1


async def test_it_works_without_prepared_statements(postgresql: str) -> None:
    """Behind a pooler that gives each transaction another session: nothing that it does needs the same one again."""
    async with watched(postgresql, statement_cache_size=0, max_queries=1) as (store, _):
        records = await many_owned(store, 30)
        await append_all(store, records, release=True, wake=AT)
        taken = await claimed(store)
        await append_all(store, list(taken), status="completed", release=True)

        assert {(await found(store, record.id)).status for record in records} == {"completed"}


async def test_a_pool_needs_a_dsn_and_room(postgresql: str) -> None:
    """What the store cannot work with is refused where it is made, with the way out."""
    async with asyncpg.create_pool(postgresql, min_size=0, max_size=3) as pool:
        with pytest.raises(ValueError, match=r"write PostgresStore\(dsn, pool=pool\)"):
            PostgresStore(pool=WatchedPool(pool))
        with pytest.raises(ValueError, match="needs 4 connections at least"):
            PostgresStore(postgresql, pool=pool)


async def test_it_is_entered_once(store: PostgresStore) -> None:
    """One that is open is not opened again; one that is closed says so, and can be opened again."""
    with pytest.raises(StoreError, match="is open already"):
        await store.__aenter__()
    other = PostgresStore("postgresql://nowhere", schema="s")
    with pytest.raises(StoreClosedError, match=r"PostgresStore\(schema='s'\) is not open"):
        await other.get("run")


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_trio_is_refused(anyio_backend: str, postgresql: str) -> None:
    """Its driver knows asyncio only: on trio it cannot be entered, and says what to do."""
    with pytest.raises(StoreError, match="runs on asyncio only"):
        await PostgresStore(postgresql).__aenter__()


def test_the_missing_package_is_named_with_its_extra() -> None:
    """Without asyncpg, importing the file says what to install."""
    script = "import sys; sys.modules['asyncpg'] = None; import skuld_async.stores.postgres"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 1
    assert "pip install 'skuld-async[postgres]'" in done.stderr


async def test_suspended_runs_are_left_alone(store: PostgresStore) -> None:
    """A run that waits for nothing but an answer is due at no time, for any clock."""
    await suspended(store)
    assert (await store.next_wake(["order"]), await claimed(store, now=AT * 2)) == (None, [])
