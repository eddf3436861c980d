"""PostgresStore: its schema, the migrations, and whether queries go by the indexes."""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

import anyio
import pytest

from skuld_async.durable.errors import StoreSchemaError
from skuld_async.durable.records import RunFilter, WaitFilter
from skuld_async.stores.postgres import PostgresStore, leases
from skuld_async.stores.postgres.queries import BURY, WORKERS, listed_runs, open_waits
from skuld_async.stores.postgres.schema import Schema
from skuld_async.testing.stores.samples import AT, found, owned, ready

from .postgres_parts import asyncpg, new_schema

PATIENCE = 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def connection(postgresql: str) -> AsyncGenerator[Any]:
    connection = await asyncpg.connect(postgresql)
    yield connection
    await connection.close()


async def test_stores_that_start_at_once_migrate_once(postgresql: str) -> None:
    """Any number of workers may find an empty database at the same time: all of them can use it."""
    schema = new_schema()
    stores = [PostgresStore(postgresql, schema=schema, connections=4) for _ in range(8)]
    async with anyio.create_task_group() as group:

        async def work(store: PostgresStore, run: str) -> None:
            async with store:
                await owned(store, run)

        for at, store in enumerate(stores):
            group.start_soon(work, store, f"run-{at}")

    async with stores[0] as store:
        assert len(await store.runs(RunFilter(), None, 100)) == len(stores)


@pytest.mark.parametrize(
    "schema", ['we"ird', "SCHEMA.", "'; DROP TABLE runs; --", "Größe %s {x} $1", "select", "CHANNEL", "ä" * 31]
)
async def test_a_schema_may_have_any_name(postgresql: str, schema: str, connection: Any) -> None:
    """What is odd in a name is part of it, and two names are two stores, of which none hears of the other."""
    async with (
        PostgresStore(postgresql, schema=schema) as store,
        PostgresStore(postgresql, schema=schema + "2"[: 63 - len(schema.encode())] or "other") as other,
        store.listen() as listener,
    ):
        await ready(other, "elsewhere")
        await ready(store, "here")

        assert await listener.changed(PATIENCE) == {"here"}
        assert await store.get("elsewhere") is None
    assert await connection.fetchval("SELECT count(*) FROM pg_namespace WHERE nspname = $1", schema) == 1
    await connection.execute(f'DROP SCHEMA "{schema.replace(chr(34), chr(34) * 2)}" CASCADE')


@pytest.mark.parametrize("schema", ["", "a\0b", "x" * 64, "ä" * 32])
def test_what_can_be_no_name_is_refused(schema: str) -> None:
    """PostgreSQL would cut a name that is too long, and two of them would be one."""
    with pytest.raises(ValueError, match="is no name of a schema: it has 1 to 63 bytes"):
        PostgresStore(schema=schema)


async def test_a_later_version_is_refused(postgresql: str, connection: Any) -> None:
    """A store that a later release has migrated is not touched."""
    schema = new_schema()
    async with PostgresStore(postgresql, schema=schema) as store:
        await owned(store)
    await connection.execute(Schema(schema).sql("UPDATE SCHEMA.meta SET version = 99"))

    with pytest.raises(StoreSchemaError, match=r'schema "apart_\d+": it has version 99.*Upgrade skuld-async'):
        await store.__aenter__()
    await connection.execute(Schema(schema).sql("UPDATE SCHEMA.meta SET version = 1"))
    async with store:
        assert (await found(store)).id == "run"


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        ("CREATE TABLE {}.runs (number int)", "it has tables of somebody else"),
        ("CREATE TABLE {}.meta (number int)", "its table meta is not one of skuld_async"),
        ("CREATE TABLE {}.meta (store text, version int)", "its table meta does not name skuld_async"),
    ],
)
async def test_a_schema_of_somebody_else_is_refused(
    postgresql: str, connection: Any, tables: str, problem: str
) -> None:
    """Where there are other tables nothing is created, and the way out is another schema."""
    schema = new_schema()
    await connection.execute(f"CREATE SCHEMA {schema}; {tables.format(schema)}")

    with pytest.raises(StoreSchemaError, match=rf"{problem}.*Choose another one"):
        await PostgresStore(postgresql, schema=schema).__aenter__()
    there = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = $1", schema)
    assert there == 1


async def test_a_schema_may_be_there_already(postgresql: str, connection: Any) -> None:
    """A role that may not create schemas can be given one that is empty."""
    schema = new_schema()
    await connection.execute(
        f"CREATE ROLE {schema} LOGIN; CREATE SCHEMA {schema} AUTHORIZATION {schema};"
        f"REVOKE CREATE ON DATABASE postgres FROM {schema}"
    )
    async with PostgresStore(postgresql.replace("postgres:", f"{schema}:"), schema=schema) as store:
        await owned(store)
        assert (await found(store)).id == "run"


@pytest.fixture(scope="module")
def filled() -> str:
    return new_schema()


FILL = """
    INSERT INTO SCHEMA.runs (id, workflow, arguments, tags, status, created, updated, wake, owner, token, appends,
        attention)
    SELECT 'run-' || i, 'order-' || i % 200, '', ARRAY['tag-' || i % 500], (ARRAY['suspended', 'completed',
        'running', 'needs_attention'])[CASE i % 100 WHEN 0 THEN 3 WHEN 1 THEN 4 ELSE 1 + i % 2 END], i, i,
        CASE WHEN i % 2 = 0 AND i % 100 > 0 THEN 1e9 + i END, CASE WHEN i % 100 = 0 THEN 'w' || i % 3 END, 1, 1,
        CASE WHEN i % 100 = 1 THEN 'divergence' END
    FROM generate_series(1, 20000) i;
    INSERT INTO SCHEMA.waits (run, id, digest, sig, question, schema, opened, workflow, tags, name, assignee, state,
        answered_by)
    SELECT 'run-' || i, '0/1', 'd', 's', '', '', i, 'order-' || i % 200, ARRAY['tag-' || i % 500], 'name-' || i % 300,
        'who-' || i % 400, (ARRAY['open', 'closed'])[1 + i % 2], ''
    FROM generate_series(1, 20000) i;
    INSERT INTO SCHEMA.messages SELECT 'run-' || i, 1, 'answer', '', '', '', '', 1,
        CASE WHEN i % 1000 > 0 THEN '' END FROM generate_series(1, 20000) i;
    ANALYZE SCHEMA.runs; ANALYZE SCHEMA.waits; ANALYZE SCHEMA.messages
"""


@pytest.fixture
async def explain(postgresql: str, filled: str, connection: Any) -> Callable[..., Any]:
    """Gives the plan of a statement, over tables with many rows."""
    schema = Schema(filled)
    async with PostgresStore(postgresql, schema=filled) as store:
        if not await store.runs(RunFilter(), None, 1):
            await connection.execute(schema.sql(FILL))

    async def plan(statement: str, *values: object) -> str:
        rows = await connection.fetch("EXPLAIN " + schema.sql(statement), *values)
        return "\n".join(row[0] for row in rows)

    return plan


INBOX: list[tuple[WaitFilter, Sequence[str]]] = [
    (WaitFilter(), ["waits_by_age"]),
    (WaitFilter(workflow="order-8"), ["waits_by_workflow"]),
    (WaitFilter(assignee="who-8"), ["waits_by_assignee"]),
    (WaitFilter(name="name-8"), ["waits_by_name"]),
    (WaitFilter(tag="tag-8"), ["waits_by_tag"]),
    (WaitFilter(run="run-8"), ["waits_pkey"]),
    (WaitFilter(opened_before=100.0), ["waits_by_age"]),
    (WaitFilter(workflow="order-8", opened_before=100.0), ["waits_by_workflow", "waits_by_age"]),
    (WaitFilter(workflow="order-8", assignee="who-8"), ["waits_by_assignee"]),
    (WaitFilter(workflow="order-8", tag="tag-8"), ["waits_by_tag", "waits_by_workflow"]),
]


@pytest.mark.parametrize(("only", "indexes"), INBOX, ids=str)
@pytest.mark.parametrize("after", [None, (50.0, "run-50", "0/1")], ids=["first", "next"])
async def test_the_inbox_goes_by_an_index(
    explain: Callable[..., Any], only: WaitFilter, indexes: Sequence[str], after: tuple[float, str, str] | None
) -> None:
    """By workflow, tag, assignee, name, run and age, each page of open questions is one query through an index."""
    statement, values = open_waits(only, after, 20)
    plan = await explain(statement, *values)

    assert "Seq Scan" not in plan
    assert any(index in plan for index in indexes), plan


RUNS = [
    (RunFilter(), "runs_by_age"),
    (RunFilter(workflow="order-8"), "runs_by_workflow"),
    (RunFilter(statuses=("needs_attention",)), "runs_by_status"),
    (RunFilter(tag="tag-8"), "runs_by_tag"),
]


@pytest.mark.parametrize(("only", "index"), RUNS, ids=str)
@pytest.mark.parametrize("after", [None, (19000.0, "run-19000")], ids=["first", "next"])
async def test_lists_go_by_an_index(
    explain: Callable[..., Any], only: RunFilter, index: str, after: tuple[float, str] | None
) -> None:
    """Pages of runs, by workflow, status and tag, too."""
    statement, values = listed_runs(only, after, 20)
    plan = await explain(statement, *values)

    assert "Seq Scan" not in plan
    assert index in plan


STATEMENTS: dict[str, tuple[str, Sequence[object], Sequence[str]]] = {
    "claim": (
        leases.CLAIM_THESE,
        ("w", AT, 10, ["order-2", "order-4"], ["w1"], "claim"),
        ["runs_due", "runs_owned", "runs_pkey"],
    ),
    "claim of others": (leases.CLAIM_OTHERS, ("w", AT, 10, ["order-2"], [], "claim"), ["runs_due"]),
    "next wake": (leases.NEXT_WAKE, (["order-2", "order-4"],), ["runs_due"]),
    "mail": (leases.MAIL, ("w1",), ["runs_owned"]),
    "requeue known": (leases.REQUEUE_KNOWN, ("divergence", AT, ["order-1"]), ["runs_attention"]),
    "expire": (leases.EXPIRED, (10.0, 10), ["runs_ended"]),
    "workers": (WORKERS, (), ["runs_owned"]),
    "bury": (BURY, (["w1"],), ["runs_owned"]),
}


@pytest.mark.parametrize("name", STATEMENTS)
async def test_what_workers_ask_again_and_again_goes_by_an_index(explain: Callable[..., Any], name: str) -> None:
    """Claims, timers and mail cost what they find, not what there is."""
    statement, values, indexes = STATEMENTS[name]
    plan = await explain(statement, *values)

    assert "Seq Scan on runs" not in plan, plan
    assert "Seq Scan on messages" not in plan, plan
    assert [index for index in indexes if index not in plan] == [], plan
