"""The tables of a PostgreSQL store, and how a database gets them.

Text that is sorted or compared in an index has the collation ``C``: the order is then that of the code points, on every
machine. There are no foreign keys: all that belongs to a run is written by whoever holds the lock of its row.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from skuld_async.durable.errors import StoreSchemaError

from .driver import asyncpg

if TYPE_CHECKING:
    from .driver import Connection

_LONGEST = 63  # bytes of a name in PostgreSQL, which cuts off the rest without a word
_LOCK = 0x536B756C64  # the first half of the advisory lock, which others are not likely to use

# By a query of the catalogue: to_regclass may answer from a cache that knows nothing of what was created meanwhile.
_HAS_META = """
    SELECT EXISTS (
        SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relname = 'meta'
    )
"""

MIGRATIONS = (
    """
    CREATE TABLE SCHEMA.runs (
        id text COLLATE "C" PRIMARY KEY,
        workflow text COLLATE "C" NOT NULL,
        version text,
        arguments bytea NOT NULL,
        tags text[] COLLATE "C" NOT NULL,
        status text NOT NULL,
        created double precision NOT NULL,
        updated double precision NOT NULL,
        wake double precision,
        owner text COLLATE "C",
        token bigint NOT NULL,
        appends bigint NOT NULL,
        inbox bigint NOT NULL DEFAULT 0,
        events bigint NOT NULL DEFAULT 0,
        recoveries bigint NOT NULL DEFAULT 0,
        result bytea,
        error bytea,
        attention text COLLATE "C",
        written_by text, -- worker and token of the last append: one that comes again is recognised by them
        written_token bigint,
        claim text -- what the last claim called itself, so that it finds its runs again if its connection was lost
    ) WITH (fillfactor = 70); -- an append changes no index: with room in its page it leaves no trace in them
    CREATE INDEX runs_by_age ON SCHEMA.runs (created, id);
    CREATE INDEX runs_by_workflow ON SCHEMA.runs (workflow, created, id);
    CREATE INDEX runs_by_status ON SCHEMA.runs (status, created, id);
    CREATE INDEX runs_by_tag ON SCHEMA.runs USING gin (tags) WHERE tags <> '{}';
    CREATE INDEX runs_due ON SCHEMA.runs (workflow, wake, id) WHERE owner IS NULL AND wake IS NOT NULL;
    CREATE INDEX runs_owned ON SCHEMA.runs (owner, id) WHERE owner IS NOT NULL;
    CREATE INDEX runs_attention ON SCHEMA.runs (attention, workflow) WHERE attention IS NOT NULL;
    CREATE INDEX runs_ended ON SCHEMA.runs (updated) WHERE status IN ('completed', 'failed', 'cancelled');

    CREATE TABLE SCHEMA.chunks (
        run text COLLATE "C",
        number bigint,
        data bytea NOT NULL,
        PRIMARY KEY (run, number)
    );

    CREATE TABLE SCHEMA.waits (
        run text COLLATE "C",
        id text COLLATE "C",
        digest text NOT NULL,
        sig text NOT NULL,
        question bytea NOT NULL,
        schema bytea NOT NULL,
        opened double precision NOT NULL,
        workflow text COLLATE "C" NOT NULL,
        tags text[] COLLATE "C" NOT NULL,
        name text COLLATE "C",
        assignee text COLLATE "C",
        deadline double precision,
        state text NOT NULL,
        answer bytea,
        answered_by text NOT NULL,
        answered double precision,
        PRIMARY KEY (run, id)
    );
    CREATE INDEX waits_by_age ON SCHEMA.waits (opened, run, id) WHERE state = 'open';
    CREATE INDEX waits_by_workflow ON SCHEMA.waits (workflow, opened, run, id) WHERE state = 'open';
    CREATE INDEX waits_by_assignee ON SCHEMA.waits (assignee, opened, run, id)
        WHERE state = 'open' AND assignee IS NOT NULL;
    CREATE INDEX waits_by_name ON SCHEMA.waits (name, opened, run, id) WHERE state = 'open' AND name IS NOT NULL;
    CREATE INDEX waits_by_tag ON SCHEMA.waits USING gin (tags) WHERE state = 'open' AND tags <> '{}';

    CREATE TABLE SCHEMA.messages (
        run text COLLATE "C",
        number bigint,
        kind text NOT NULL,
        wait text NOT NULL,
        name text NOT NULL,
        body bytea NOT NULL,
        by text NOT NULL,
        at double precision NOT NULL,
        fate text, -- NULL until it is dealt with
        PRIMARY KEY (run, number)
    );
    CREATE INDEX messages_new ON SCHEMA.messages (run) WHERE fate IS NULL;

    CREATE TABLE SCHEMA.events (
        run text COLLATE "C",
        number bigint,
        at double precision NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (run, number)
    );

    CREATE TABLE SCHEMA.workers (
        id text COLLATE "C" PRIMARY KEY,
        host text NOT NULL,
        pid bigint NOT NULL,
        born text NOT NULL,
        workflows text[] NOT NULL,
        beat bigint NOT NULL
    );
    """,
)
"""What makes each version out of the one before; those that were released are never changed."""


class Schema:
    """A schema of a database, by its name.

    Statements are written for the schema ``SCHEMA`` and the channel ``CHANNEL``; `sql` puts in the true ones.
    """

    def __init__(self, name: str) -> None:
        if not name or "\0" in name or len(name.encode()) > _LONGEST:
            raise ValueError(f"{name!r} is no name of a schema: it has 1 to {_LONGEST} bytes, none of them 0")
        self.name = name
        self.quoted = '"' + name.replace('"', '""') + '"'
        mark = hashlib.sha256(name.encode()).digest()
        self.channel = f"skuld_{mark[:12].hex()}"
        """What changes are announced on: one channel a schema, whatever characters its name has."""
        self.lock = int.from_bytes(mark[:4], signed=True)
        self._ready: dict[str, str] = {}

    def sql(self, statement: str) -> str:
        """A statement for this schema."""
        ready = self._ready.get(statement)
        if ready is None:
            ready = statement.replace("CHANNEL", f"'{self.channel}'").replace("SCHEMA.", f"{self.quoted}.")
            self._ready[statement] = ready
        return ready

    async def migrate(self, connection: Connection) -> None:
        """Bring the database to the version of this release; several may try at once."""
        if await self._version(connection) == len(MIGRATIONS):
            return
        async with connection.transaction():
            # Of this transaction, not of the session: a connection may be shared between transactions.
            await connection.execute("SELECT pg_advisory_xact_lock($1::bigint)", (_LOCK << 24) ^ self.lock)
            version = await self._version(connection)
            try:
                if version is None:
                    await self._create(connection)
                for migration in MIGRATIONS[version or 0 :]:
                    await connection.execute(self.sql(migration))
            except asyncpg.DuplicateTableError as error:
                raise self._foreign(f"it has tables of somebody else ({error})") from error
            await connection.execute(self.sql("UPDATE SCHEMA.meta SET version = $1"), len(MIGRATIONS))

    async def _version(self, connection: Connection) -> int | None:
        """The version that the database has; None if it has none."""
        if not await connection.fetchval(_HAS_META, self.name):
            return None
        try:
            version = await connection.fetchval(self.sql("SELECT version FROM SCHEMA.meta WHERE store = 'skuld_async'"))
        except asyncpg.UndefinedColumnError as error:
            raise self._foreign(f"its table meta is not one of skuld_async ({error})") from error
        if version is None:
            raise self._foreign("its table meta does not name skuld_async")
        if version > len(MIGRATIONS):
            raise StoreSchemaError(
                f"schema {self.quoted}",
                f"it has version {version}, written by a later release; this one knows {len(MIGRATIONS)}",
                "Upgrade skuld-async here too",
            )
        found: int = version
        return found

    async def _create(self, connection: Connection) -> None:
        # Asked first: with IF NOT EXISTS alone it would take the right to create schemas, also where there is one.
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", self.name):
            await connection.execute(f"CREATE SCHEMA {self.quoted}")
        await connection.execute(self.sql("CREATE TABLE SCHEMA.meta (store text PRIMARY KEY, version bigint NOT NULL)"))
        await connection.execute(self.sql("INSERT INTO SCHEMA.meta VALUES ('skuld_async', 0)"))

    def _foreign(self, problem: str) -> StoreSchemaError:
        return StoreSchemaError(
            f"schema {self.quoted}", problem, "Choose another one: PostgresStore(..., schema='another')"
        )


def notify(of: str) -> str:
    """The expression that announces the run whose id is *of*; an id too long for a message is left out."""
    return f"pg_notify(CHANNEL, CASE WHEN octet_length({of}) < 8000 THEN {of} ELSE '' END)"
