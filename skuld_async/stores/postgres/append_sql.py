"""The statements that write an append, by its shape.

Most appends bring a chunk and nothing else: these lock and change one row, and add one. The others get a statement for
what they bring, so that none pays for what it does not. In each, all that is written hangs on the compare-and-set of
the lease: nothing is changed where that finds another owner, token or number.
"""

# ruff: noqa: S608 - statements are made of constants, and all values are parameters

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from skuld_async.durable.records import ENDED

from .rows import WAIT
from .schema import notify

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from skuld_async.durable.records import Append, WaitRecord

_PLAIN_ONE = """
    WITH done AS (
        UPDATE SCHEMA.runs
        SET appends = $4::bigint, written_by = $2, written_token = $3,
            recoveries = CASE WHEN $5 THEN 0 ELSE recoveries END
        WHERE id = $1 AND owner = $2 AND token = $3 AND appends + 1 = $4
        RETURNING id
    )
    INSERT INTO SCHEMA.chunks SELECT id, $4, $7 FROM done RETURNING $6::bigint AS position, true AS done
"""
PLAIN_MANY = """
    WITH item AS (
        SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::bool[], $6::bytea[])
            WITH ORDINALITY AS i (run, worker, token, number, progress, chunk, position)
    ),
    done AS (
        UPDATE SCHEMA.runs r
        SET appends = i.number, written_by = i.worker, written_token = i.token,
            recoveries = CASE WHEN i.progress THEN 0 ELSE recoveries END
        FROM item i WHERE r.id = i.run AND r.owner = i.worker AND r.token = i.token AND r.appends + 1 = i.number
        RETURNING r.id, i.number, i.chunk, i.position
    ),
    chunk AS (INSERT INTO SCHEMA.chunks SELECT id, number, chunk FROM done)
    SELECT position - 1, true AS done FROM done
"""
"""The same for many: their fields are arrays, in the same order."""

# Answers lock the run and then the wait. Here it is the same: what is found in a wait that an answer had locked is what
# that answer has left there, though it was committed after this statement began.
_LEASE = """
    lease AS MATERIALIZED (
        SELECT id, status FROM SCHEMA.runs
        WHERE id = $1 AND owner = $2 AND token = $3 AND appends + 1 = $4
        FOR UPDATE
    )"""
_TAKEN = """
    ending AS MATERIALIZED (
        SELECT w.id, w.state FROM lease JOIN SCHEMA.waits w ON w.run = lease.id
        WHERE w.id = ANY({unanswered}::text[])
        ORDER BY w.id
        FOR UPDATE OF w
    ),
    taken AS (SELECT id FROM ending WHERE state = 'answered')"""


class Shape(NamedTuple):
    """What an append brings besides the lease."""

    chunk: bool = False
    replace: bool = False
    status: bool = False
    ends: bool = False
    release: bool = False
    opens: bool = False
    closes: bool = False
    folded: bool = False
    events: bool = False
    trim: bool = False
    forget: bool = False


PLAIN = Shape(chunk=True)


def shape_of(item: Append) -> Shape:
    """The shape of an append: those of the same one share a statement."""
    return Shape(
        item.chunk is not None,
        item.replace,
        item.status is not None,
        item.status in ENDED,
        item.release,
        bool(item.opens),
        bool(item.closes),
        bool(item.folded),
        bool(item.events),
        bool(item.trim),
        item.replace and bool(item.forget),
    )


class AppendStatement:
    """The statement for one shape.

    Its first parameters are run, worker, token, number, progress, position; what comes next is in ``extra``. It
    returns a row: position, done, and, where it closes waits, ``taken``: one that was answered meanwhile.
    """

    def __init__(self, shape: Shape) -> None:
        self.extra: list[Callable[[Append], object]] = []
        if shape == PLAIN:
            self.extra.append(lambda item: item.chunk)
            self.text = _PLAIN_ONE
        else:
            parts = [_LEASE, *self._taken(shape), self._run(shape), *self._rest(shape)]
            self.text = f"WITH {','.join(parts)}\n{_outcome(shape)}"

    def _put(self, value: Callable[[Append], object]) -> str:
        """Its place in the statement."""
        self.extra.append(value)
        return f"${6 + len(self.extra)}"

    def _taken(self, shape: Shape) -> Sequence[str]:
        if not shape.closes:
            return ()
        unanswered = self._put(lambda item: [one.wait for one in item.closes if not one.answered])
        return (_TAKEN.format(unanswered=unanswered),)

    def _run(self, shape: Shape) -> str:
        """What changes in the row of the run."""
        changes = [
            "appends = $4::bigint",
            "written_by = $2",
            "written_token = $3",
            "recoveries = CASE WHEN $5 THEN 0 ELSE recoveries END",
        ]
        status = "r.status"
        mailed = f"inbox > {self._put(lambda item: item.seen)}" if shape.status or shape.release else ""
        if shape.status:
            asked = self._put(lambda item: item.status)
            status = f"CASE WHEN {asked}::text = 'suspended' AND {mailed} THEN 'running' ELSE {asked}::text END"
            changes += [
                f"status = {status}",
                f"updated = CASE WHEN r.status = {status} THEN updated ELSE {self._put(lambda item: item.at)} END",
                f"result = {self._put(lambda item: item.result)}",
                f"error = {self._put(lambda item: item.error)}",
                f"attention = {self._put(lambda item: item.attention)}",
            ]
        if shape.release:
            is_ready = f"{mailed} AND {status} IN ('running', 'suspended')"
            wake = self._put(lambda item: item.wake)
            changes += ["owner = NULL", f"wake = CASE WHEN {is_ready} THEN 0::double precision ELSE {wake} END"]
        if shape.events:
            last = self._put(lambda item: item.events[-1].offset)
            changes.append(f"events = {last}")
        unless = " AND NOT EXISTS (SELECT FROM taken)" if shape.closes else ""
        return f"""
    done AS (
        UPDATE SCHEMA.runs r SET {", ".join(changes)}
        FROM lease WHERE r.id = lease.id{unless}
        RETURNING r.id, r.status <> lease.status AS turned
    )"""

    def _rest(self, shape: Shape) -> Sequence[str]:
        """What changes in the other tables. No row is changed twice: of two changes PostgreSQL would drop one."""
        parts: list[str] = []
        if shape.replace:
            parts.append("replaced AS (DELETE FROM SCHEMA.chunks c USING done WHERE c.run = done.id)")
        if shape.chunk:
            chunk = self._put(lambda item: item.chunk)
            parts.append(f"chunk AS (INSERT INTO SCHEMA.chunks SELECT id, $4, {chunk} FROM done)")
        if shape.closes or shape.ends:
            parts.append(self._closed(shape))
        if shape.opens:
            parts.append(self._opened())
        if shape.folded:
            numbers = self._put(lambda item: [one.number for one in item.folded])
            fates = self._put(lambda item: [one.refused for one in item.folded])
            parts.append(
                f"folded AS (UPDATE SCHEMA.messages m SET fate = f.fate"
                f" FROM done, unnest({numbers}::bigint[], {fates}::text[]) AS f (number, fate)"
                f" WHERE m.run = done.id AND m.number = f.number AND NOT ({self._is_old(shape)}))"
            )
        if shape.events:
            offsets = self._put(lambda item: [one.offset for one in item.events if one.offset > item.trim])
            times = self._put(lambda item: [one.at for one in item.events if one.offset > item.trim])
            data = self._put(lambda item: [one.data for one in item.events if one.offset > item.trim])
            parts.append(
                f"events AS (INSERT INTO SCHEMA.events SELECT done.id, e.*"
                f" FROM done, unnest({offsets}::bigint[], {times}::double precision[], {data}::bytea[]) AS e)"
            )
        if shape.trim:
            trim = self._put(lambda item: item.trim)
            parts.append(
                f"trimmed AS (DELETE FROM SCHEMA.events e USING done WHERE e.run = done.id AND e.number <= {trim})"
            )
        if shape.forget:
            read, closed = self._is_old(shape), self._was_closed(shape)
            parts += [
                f"read AS (DELETE FROM SCHEMA.messages m USING done WHERE m.run = done.id AND {read})",
                f"forgotten AS (DELETE FROM SCHEMA.waits w USING done WHERE w.run = done.id AND {closed})",
            ]
        return [f"\n    {part}" for part in parts]

    def _is_old(self, shape: Shape) -> str:
        """Of a message: whether it is forgotten."""
        if not shape.forget:
            return "false"
        return f"m.fate IS NOT NULL AND m.at < {self._put(lambda item: item.forget)}::double precision"

    def _was_closed(self, shape: Shape) -> str:
        """Of a wait: whether it is forgotten."""
        old = f"w.state = 'closed' AND w.opened < {self._put(lambda item: item.forget)}::double precision"
        if shape.opens:  # one that is asked again in the same append
            old += f" AND w.id <> ALL({self._put(lambda item: [one.id for one in item.opens])}::text[])"
        return old

    def _closed(self, shape: Shape) -> str:
        which = "w.state <> 'closed'"
        if not shape.ends:
            which = f"w.id = ANY({self._put(lambda item: [one.wait for one in item.closes])}::text[])"
        if shape.opens:  # one that is asked again in the same append
            which += f" AND w.id <> ALL({self._put(lambda item: [one.id for one in item.opens])}::text[])"
        return f"closed AS (UPDATE SCHEMA.waits w SET state = 'closed' FROM done WHERE w.run = done.id AND {which})"

    def _opened(self) -> str:
        """The waits, as arrays of their columns; arrays have no arrays in them, so the tags of all come in one."""
        columns = [
            self._put(lambda item: [one.id for one in _opened(item)]) + "::text[]",
            self._put(lambda item: [one.digest for one in _opened(item)]) + "::text[]",
            self._put(lambda item: [one.sig for one in _opened(item)]) + "::text[]",
            self._put(lambda item: [one.question for one in _opened(item)]) + "::bytea[]",
            self._put(lambda item: [one.schema for one in _opened(item)]) + "::bytea[]",
            self._put(lambda item: [one.opened for one in _opened(item)]) + "::double precision[]",
            self._put(lambda item: [one.workflow for one in _opened(item)]) + "::text[]",
            self._put(lambda item: [*accumulate((len(one.tags) for one in _opened(item)), initial=0)][:-1]) + "::int[]",
            self._put(lambda item: [len(one.tags) for one in _opened(item)]) + "::int[]",
            self._put(lambda item: [one.name for one in _opened(item)]) + "::text[]",
            self._put(lambda item: [one.assignee for one in _opened(item)]) + "::text[]",
            self._put(lambda item: [one.deadline for one in _opened(item)]) + "::double precision[]",
            self._put(lambda item: ["closed" if item.status in ENDED else one.state for one in _opened(item)])
            + "::text[]",
        ]
        tags = self._put(lambda item: [tag for one in _opened(item) for tag in one.tags]) + "::text[]"
        renewed = ", ".join(f"{name} = excluded.{name}" for name in WAIT.split(", ")[2:])
        return f"""opened AS (
        INSERT INTO SCHEMA.waits ({WAIT})
        SELECT done.id, o.id, o.digest, o.sig, o.question, o.schema, o.opened, o.workflow,
            ({tags})[o.before + 1 : o.before + o.size], o.name, o.assignee, o.deadline, o.state, NULL, '', NULL
        FROM done, unnest({", ".join(columns)})
            AS o (id, digest, sig, question, schema, opened, workflow, before, size, name, assignee, deadline, state)
        ON CONFLICT (run, id) DO UPDATE SET {renewed}
    )"""


def _opened(item: Append) -> Collection[WaitRecord]:
    """The waits that it opens; the last word counts where one is asked twice."""
    return {one.id: one for one in item.opens}.values()


def _outcome(shape: Shape) -> str:
    told = [notify("id")] if shape.release or shape.events or shape.status else []
    when = "" if shape.release or shape.events else " WHERE turned"
    columns = [
        "$6::bigint AS position",
        "EXISTS (SELECT FROM done) AS done",
        *["(SELECT min(id) FROM taken) AS taken" for _ in range(shape.closes)],
        *[f"(SELECT {one} FROM done{when})" for one in told],
    ]
    return f"SELECT {', '.join(columns)}"
