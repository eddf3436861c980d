"""SQLiteStore: what is asked often is found by an index, in its order."""

import sqlite3
from pathlib import Path

import pytest

from skuld_async.durable.records import RunFilter, WaitFilter
from skuld_async.stores.sqlite import SQLiteStore
from skuld_async.stores.sqlite.claim import due_query, owned_query, wake_query
from skuld_async.stores.sqlite.reads import CHUNKS, MAIL, UNREAD, runs_query
from skuld_async.stores.sqlite.runs import EXPIRED
from skuld_async.stores.sqlite.waits import inbox_query
from skuld_async.stores.sqlite.writer import Desk
from skuld_async.testing.stores.samples import AT, question, ready, suspended

from .sqlite_parts import writer_of


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


async def plan_of(path: Path, query: str, values: int) -> str:
    async with SQLiteStore(path) as store:
        await suspended(store, opens=(question(),))
    connection = sqlite3.connect(path)
    rows = connection.execute(f"EXPLAIN QUERY PLAN {query}", [None] * values).fetchall()
    connection.close()
    return "; ".join(row[3] for row in rows)


INBOX = [
    (WaitFilter(), "INDEX waits_by_age"),
    (WaitFilter(opened_before=AT), "INDEX waits_by_age (opened<?)"),
    (WaitFilter(workflow="order"), "INDEX waits_by_workflow (workflow=?"),
    (WaitFilter(assignee="ann"), "INDEX waits_by_assignee (assignee=?"),
    (WaitFilter(assignee="ann", opened_before=AT), "INDEX waits_by_assignee (assignee=? AND opened<?"),
    (WaitFilter(tag="blue", opened_before=AT), "SEARCH t USING PRIMARY KEY (tag=? AND opened<?"),
]


@pytest.mark.parametrize("after", [None, (AT, "run", "0/1")], ids=["first-page", "next-page"])
@pytest.mark.parametrize(("only", "index"), INBOX)
async def test_the_inbox_is_one_indexed_query(
    path: Path, only: WaitFilter, index: str, after: tuple[float, str, str] | None
) -> None:
    """By workflow, by assignee, by tag or by age: an index finds the rows and gives their order; nothing is sorted."""
    query, values = inbox_query(only, after)
    plan = await plan_of(path, query, len(values) + 1)
    assert index.partition(" (")[0] in plan
    assert after is not None or index in plan
    assert "TEMP B-TREE" not in plan


LISTS = [
    (RunFilter(), "INDEX runs_by_age"),
    (RunFilter(workflow="order"), "INDEX runs_by_workflow (workflow=?"),
    (RunFilter(statuses=("failed",)), "INDEX runs_by_status (status=?"),
    (RunFilter(statuses=("failed", "dead")), "INDEX runs_by_age"),
    (RunFilter(tag="blue"), "SEARCH t USING PRIMARY KEY (tag=?"),
]


@pytest.mark.parametrize(("only", "index"), LISTS)
async def test_a_page_of_runs_needs_no_sorting(path: Path, only: RunFilter, index: str) -> None:
    """An index gives the order, so that a page costs the same wherever it is in the list."""
    for after in (None, (AT, "run")):
        query, values = runs_query(only, after)
        plan = await plan_of(path.with_name(f"{after}.db"), query, len(values) + 1)
        assert index in plan
        assert "TEMP B-TREE" not in plan


OFTEN = [
    (due_query(["a", "b"], unknown=False), 4, "INDEX runs_due (wake<?)"),
    (due_query(["a", "b"], unknown=True), 4, "INDEX runs_due (wake<?)"),
    (owned_query(["w1", "w2"], ["a"], unknown=False), 4, "INDEX runs_owned (owner=?)"),
    (wake_query(["a", "b"]), 2, "COVERING INDEX runs_due (wake>?)"),
    (UNREAD, 1, "INDEX messages_unread (run=?)"),
    (CHUNKS, 1, "INDEX chunks_of_run (run=?)"),
    (MAIL, 1, "INDEX runs_owned (owner=?)"),
    (EXPIRED, 2, "INDEX runs_ended (updated<?)"),
]


@pytest.mark.parametrize(("query", "values", "index"), OFTEN)
async def test_what_a_runtime_asks_often_is_indexed(path: Path, query: str, values: int, index: str) -> None:
    """Runs that are due, that a worker owns, or that have mail are found without a look at others."""
    plan = await plan_of(path, query, values)
    assert index in plan
    assert "SCAN" not in plan
    assert "TEMP B-TREE" not in plan


async def test_timers_among_fifty_thousand(path: Path) -> None:
    """Of as many sleeping runs those that are due are taken in order, without a look at the others."""
    async with SQLiteStore(path, synchronous="normal") as store:
        await ready(store)

        def fill(desk: Desk, _item: None) -> None:
            desk.execute(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 50000) "
                "INSERT INTO runs (id, workflow, tags, status, created, updated, wake, token, appends, inbox, events, "
                "recoveries) SELECT 'sleeper ' || i, 'order', '[]', 'suspended', 1, 1, 1000 + i, 1, 1, 0, 0, 0 FROM n"
            )
            desk.execute("INSERT INTO arguments SELECT key, x'' FROM runs WHERE id LIKE 'sleeper%'")

        await writer_of(store).do(fill, None)
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        def watch(desk: Desk, _item: None) -> None:
            desk.connection.set_progress_handler(count, 100)

        await writer_of(store).do(watch, None)
        taken = await store.claim("w1", now=1003.0, limit=10, workflows=["order"])
        assert [record.id for record in taken] == ["run", "sleeper 1", "sleeper 2", "sleeper 3"]
        assert steps < 30  # hundreds of instructions of SQLite
        assert await store.next_wake(["order"]) == 1004.0
