"""PostgresStore when the database goes away: what was acknowledged is there once, and what can go on goes on."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from skuld_async.durable.records import RunRecord
from skuld_async.durable.store import Store
from skuld_async.stores.postgres import PostgresStore
from skuld_async.stores.postgres.driver import is_passing
from skuld_async.testing.stores.samples import (
    AT,
    MANY,
    answer,
    claimed,
    deposit,
    found,
    new_run,
    owned,
    question,
    ready,
    settled,
    suspended,
    write,
)
from skuld_async.testing.stores.working import W1, beating, beats

from .postgres_parts import asyncpg, new_schema, watched
from .server import PostgresServer, running

PATIENCE = 20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server that only these tests use: they stop it."""
    with running() as server:
        yield server


@asynccontextmanager
async def killing(uri: str) -> AsyncGenerator[Callable[[], Awaitable[int]]]:
    """Gives what ends all other connections, and says how many they were."""
    connection = await asyncpg.connect(uri)

    async def kill() -> int:
        return len(
            await connection.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            )
        )

    try:
        yield kill
    finally:
        await connection.close()


class Work:
    """Runs that append without a pause, each chunk the number of its append."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.acknowledged: dict[str, int] = {}
        self.stops = False
        self._behind: set[str] = set()
        self._moved = anyio.Event()

    async def run(self, record: RunRecord) -> None:
        number = 1
        while not self.stops:
            number += 1
            await self._store.append(write(record, number=number, chunk=b"%d" % number))
            self.acknowledged[record.id] = number
            self._behind.discard(record.id)
            if not self._behind:
                self._moved.set()

    async def moves(self) -> None:
        """Wait until each run has got further."""
        self._behind = set(self.acknowledged)
        self._moved = anyio.Event()
        with anyio.fail_after(PATIENCE):
            await self._moved.wait()

    async def check(self) -> None:
        """All that was acknowledged is there once, in its order, and nothing else."""
        for run, number in self.acknowledged.items():
            chunks, _ = await self._store.load(run)
            assert list(chunks) == [b"first", *(b"%d" % one for one in range(2, number + 1))]
            assert (await found(self._store, run)).appends == number


@asynccontextmanager
async def working(store: Store, number: int) -> AsyncGenerator[Work]:
    """So many runs at work."""
    records = [await owned(store, f"run-{at}") for at in range(number)]
    work = Work(store)
    work.acknowledged = dict.fromkeys([record.id for record in records], 1)
    async with anyio.create_task_group() as group:
        for record in records:
            group.start_soon(work.run, record)
        await work.moves()
        yield work
        await work.moves()
        work.stops = True
    await work.check()


@pytest.mark.parametrize("number", [1, 5, 60])
async def test_connections_that_are_killed_lose_and_repeat_nothing(postgresql: str, number: int) -> None:
    """However often they are ended in the middle of appends: each one that returned was written once."""
    async with PostgresStore(postgresql, schema=new_schema()) as store, killing(postgresql) as kill:
        killed = 0
        async with working(store, number) as work:
            for _ in range(10):
                killed += await kill()
                await work.moves()

        assert killed > 1


@pytest.mark.parametrize("number", [1, 60])
async def test_a_server_that_is_restarted_loses_and_repeats_nothing(server: PostgresServer, number: int) -> None:
    """The same for a restart of the server: callers wait for it, and notice nothing."""
    async with PostgresStore(server.uri, schema=new_schema()) as store, working(store, number):
        await server.stop()
        await server.start()


async def test_patience_ends(server: PostgresServer) -> None:
    """A server that stays away is not waited for for ever; when it is there again the same call succeeds."""
    async with PostgresStore(server.uri, schema=new_schema(), patience=0.3) as store:
        records = [await owned(store, f"run-{at}") for at in range(30)]
        raised: list[Exception] = []

        async def one(record: RunRecord) -> None:
            try:
                await store.append(write(record))
            except OSError as error:
                raised.append(error)

        async with server.away():
            with anyio.fail_after(PATIENCE):
                async with anyio.create_task_group() as group:
                    for record in records:
                        group.start_soon(one, record)
                with pytest.raises(FileNotFoundError):
                    await store.get("run-0")
        assert [is_passing(error) for error in raised] == [True] * len(records)

        async with anyio.create_task_group() as group:
            for record in records:
                group.start_soon(store.append, write(record))
        assert {(await found(store, record.id)).appends for record in records} == {2}


async def test_a_listener_says_that_it_may_have_missed_something(postgresql: str) -> None:
    """After a lost connection it does not know what has changed; then it hears again."""
    async with (
        PostgresStore(postgresql, schema=new_schema()) as store,
        killing(postgresql) as kill,
        store.listen() as first,
        store.listen() as second,
    ):
        await kill()
        assert (await first.changed(PATIENCE), await second.changed(PATIENCE)) == (None, None)
        await ready(store)
        assert (await first.changed(PATIENCE), await second.changed(PATIENCE)) == ({"run"}, {"run"})


async def test_a_new_listener_waits_for_the_server(server: PostgresServer) -> None:
    """One that comes while the server is away hears all that happens once it has been let in."""
    async with PostgresStore(server.uri, schema=new_schema()) as store:
        await server.stop()
        async with anyio.create_task_group() as group:
            group.start_soon(server.start)
            async with store.listen() as listener:
                await ready(store)

                assert await listener.changed(PATIENCE) == {"run"}


async def test_a_new_listener_gives_up(server: PostgresServer) -> None:
    """Where the server stays away longer than the store's patience, the error of the connection is raised."""
    async with PostgresStore(server.uri, schema=new_schema(), patience=0.2) as store, server.away():
        with pytest.raises(FileNotFoundError):
            await store.listen().__aenter__()


async def test_a_heart_goes_on_after_a_lost_connection(postgresql: str) -> None:
    """The beat that finds it lost raises; the next one is made over a new connection."""
    async with PostgresStore(postgresql, schema=new_schema()) as store, killing(postgresql) as kill:
        with beating(store, W1) as [heart]:
            await heart.beat()
            await kill()
            with pytest.raises((OSError, asyncpg.PostgresError, asyncpg.InterfaceError)):
                await heart.beat()
            await heart.beat()
            assert await beats(store) == {"w1": 2}
            await heart.close()

        assert await beats(store) == {}


async def test_a_heart_stops_without_a_server(server: PostgresServer) -> None:
    """Closing it raises where the worker cannot be removed; nothing stays open all the same."""
    with ThreadPoolExecutor(1) as thread:
        async with PostgresStore(server.uri, schema=new_schema()) as store:
            heart = thread.submit(store.heart, W1).result(PATIENCE)
            thread.submit(heart.beat).result(PATIENCE)
            async with server.away():
                failed = thread.submit(heart.close).exception(PATIENCE)

            assert failed is not None
            assert is_passing(failed)
            assert await beats(store) == {"w1": 1}


Step = Callable[[Store], Awaitable[Any]]


async def _nothing(_store: Store) -> None:
    """There is nothing yet."""


async def _asked(store: Store) -> object:
    return await suspended(store, opens=(question(),), wake=AT)


async def _two_ready(store: Store) -> None:
    await ready(store, "a")
    await ready(store, "b")


async def _claim(store: Store) -> list[str]:
    return [record.id for record in await claimed(store, limit=1)]


async def _parked(store: Store) -> object:
    return await settled(store, "needs_attention")


async def _append(store: Store) -> None:
    await store.append(write(RunRecord("run", "", "", b"", (), "running", AT, AT, owner="w1", token=1, appends=1)))


async def _release(store: Store) -> None:
    record = RunRecord("run", "", "", b"", (), "running", AT, AT, owner="w1", token=1, appends=1)
    await store.append(write(record, status="suspended", opens=(question(),), release=True, wake=AT))


CALLS: dict[str, tuple[Step, Step, object]] = {
    "create": (_nothing, lambda store: store.create(new_run(), "w1"), ...),
    "append": (owned, _append, None),
    "release": (owned, _release, None),
    "claim": (_two_ready, _claim, ["a"]),
    "answer": (_asked, lambda store: store.answer(answer()), "repeated"),
    "deposit": (_asked, lambda store: store.deposit(deposit()), 1),
    "cancel": (_parked, lambda store: store.cancel("run", "enough", "ann", AT + 4), True),
    "requeue": (_parked, lambda store: store.requeue("run", AT + 5), False),
    "requeue known": (_parked, lambda store: store.requeue_known("divergence", ["order"], AT + 5), 0),
    "delete": (_asked, lambda store: store.delete("run"), "unknown"),
    "expire": (lambda store: settled(store, "completed"), lambda store: store.expire(AT * 2, MANY), 0),
}
"""For each call: what has to happen first, the call, and what it gives where its first answer was lost."""


async def everything(store: Store) -> list[object]:
    seen: list[object] = []
    for run in ("run", "a", "b"):
        seen += [await store.get(run), await store.load(run), await store.messages(run), await store.wait(run, "0/1")]
    return seen


@pytest.mark.parametrize("name", CALLS)
async def test_an_answer_that_is_lost_changes_nothing(postgresql: str, name: str) -> None:
    """The commit succeeds and the connection breaks before the caller hears of it: nothing is done twice."""
    before, call, expected = CALLS[name]
    async with watched(postgresql) as (store, _), watched(postgresql) as (twin, pool):
        for one in (store, twin):
            await before(one)
        once = await call(store)
        pool.loses = True
        twice = await call(twin)

        assert not pool.loses
        assert twice == (once if expected is ... else expected)
        assert await everything(twin) == await everything(store)
