"""transact: what is committed together or leaves no trace, against a real database."""

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from skuld_async import (
    Computation,
    DivergenceError,
    Effect,
    EffectError,
    Effectful,
    Handler,
    Log,
    MisuseError,
    Return,
    RolledBackError,
    State,
    Throw,
    Transaction,
    TransientScopeError,
    UnhandledEffectError,
    bracket,
    computation,
    mark_loop,
    open_session,
    replay,
    rerun,
    resume,
    rollback,
    run,
    start,
    transact,
)
from skuld_async.testing import always_cold

from .ledger import (
    AMOUNTS,
    ROWS,
    SAVEPOINTS,
    TOLD,
    Database,
    Ledger,
    around,
    booked,
    count,
    notes,
    order,
    several,
    transfer,
)
from .shop import Comment, cancelled, completed, failed, ids, left, stored, suspended

WORKER = Path(__file__).with_name("ledger_worker.py")


async def test_it_commits_at_return_and_rolls_back_at_an_error() -> None:
    """Its effects are committed together or leave no trace; State, Writer and events come back as they were."""
    logged, unlogged = Database(), Database()

    assert await run(several(AMOUNTS), *unlogged.handlers) == TOLD
    assert completed(await start(several(AMOUNTS), *logged.handlers)).value == TOLD
    for database in (logged, unlogged):
        assert database.rows == ROWS
        assert database.story == ["begin", "commit", "begin", "rollback", "begin", "rollback", "begin", "commit"]


async def test_a_replay_opens_no_transaction() -> None:
    """A settled transaction is run from the log: no resource is opened, nothing is booked, state is the same."""
    database, other = Database(), Database()
    first = completed(await start(several(AMOUNTS), *database.handlers))
    for verb in (replay, resume):
        again = await verb(several(AMOUNTS), stored(first.log), *other.handlers)
        assert completed(again).value == first.value
        assert again.output(booked) == first.output(booked) == ["transfer 5", "transfer 2"]
        assert again.output(notes) == first.output(notes)
        assert again.state(count) == 2
    assert (other.story, other.rows) == ([], [])


async def test_what_is_inside_stands_under_the_entry_of_the_transaction() -> None:
    """The entry says how it ended; the ids inside begin with its own, and the caller counts on behind it."""
    log = completed(await start(several([5, 7]), *Database().handlers)).log

    assert [(one.id, bytes(one.value).decode()) for one in log.entries if one.sig == "transact"] == [
        ("0/2", '"committed"'),
        ("0/6", '"rolled back"'),
    ]
    assert ids(log)[:8] == ["0/2", "0/2/1", "0/2/2", "0/2/3", "0/2/4", "0/2/5", "0/3", "0/4"]


async def test_as_a_root_it_is_bound_to_its_call() -> None:
    """6.1 The header binds the computation inside and its arguments; the result has that computation's type."""
    database = Database()
    outcome = completed(await start(transact(transfer(5)), *database.handlers))
    header = outcome.log.header
    assert (header.computation, bytes(header.arguments)) == (transfer.name, b'{"amount":5,"reason":""}')
    assert outcome.value == 10
    with pytest.raises(DivergenceError, match="was started with other arguments"):
        await replay(transact(transfer(6)), outcome.log, *database.handlers)


async def test_always_cold() -> None:
    """Resumed at every effect it comes to the same: a transaction is one step."""
    cold = await always_cold(several(AMOUNTS), fresh=lambda: Database().handlers)

    assert completed(cold).output(booked) == ["transfer 5", "transfer 2"]


# -- rollback, and savepoints ------------------------------------------------------------------------------------------


async def test_a_rollback_cannot_be_swallowed() -> None:
    """Whatever the body makes of it, what was rolled back is rolled back, and `transact` says so."""

    @computation
    async def swallows() -> Effectful[str]:
        yield Ledger.book("a", 1)
        try:
            yield rollback("no")
        except RolledBackError:
            yield Ledger.book("b", 1)
        yield Return("done")

    database = Database()
    outcome = failed(await start(transact(swallows()), *database.handlers))
    assert repr(outcome.error) == "RolledBackError('no')"
    assert (database.rows, database.story) == ([], ["begin", "rollback"])
    again = failed(await replay(transact(swallows()), stored(outcome.log), *Database().handlers))
    assert repr(again.error) == "RolledBackError('no')"


@SAVEPOINTS
async def test_a_transaction_in_a_transaction_is_a_savepoint(
    inner: str, outer: str, told: list[str], rows: list[tuple[str, int]]
) -> None:
    """The inner one may be rolled back alone; with the outer one it always is."""
    database = Database()
    outcome = completed(await start(around(inner, outer), *database.handlers))

    assert (outcome.value, database.rows) == (told, rows)
    assert completed(await replay(around(inner, outer), stored(outcome.log), *Database().handlers)).value == told
    assert outcome.output(booked) == (["transfer 2"] if rows[1:] else [])


async def test_in_memory_there_is_state_alone() -> None:
    """`Transaction.in_memory()` restores State, Writer and events."""
    handlers = [Ledger.handler(Database()), Transaction.in_memory(), *Database().handlers[2:]]

    outcome = completed(await start(several(AMOUNTS), *handlers))
    assert (outcome.value, outcome.output(booked)) == (TOLD, ["transfer 5", "transfer 2"])


async def test_state_that_is_changed_in_place_comes_back_too() -> None:
    """A rollback gives the value back that was there, even where the body has changed it in place."""
    held = State("ledger.held", list[str])

    @computation
    async def changes() -> Effectful[None]:
        (yield held.get()).append("in place")
        yield rollback("no")

    @computation
    async def looks() -> Effectful[list[str]]:
        try:
            yield transact(changes())
        except RolledBackError:
            yield Return((yield held.get()))

    assert await run(looks(), *Database().handlers, held.handler([])) == []


# -- stopped before the commit -----------------------------------------------------------------------------------------


KEYS = ["run/0/3/4", "run/0/3/5"]


async def finish(log: Log, database: Database) -> None:
    """Go on with `order` from *log*, and see that all is there, once."""
    outcome = completed(await resume(order(), stored(log), *database.handlers))
    assert (outcome.value, outcome.state(count), outcome.output(booked)) == ("booked 10", 1, ["transfer 5"])
    assert ids(outcome.log) == ["0/1", "0/3", "0/3/1", "0/3/2", "0/3/3", "0/3/4", "0/3/5", "0/4"]
    assert database.rows == [("a", 5), ("b", 5)]


async def test_until_the_commit_nothing_of_it_is_kept() -> None:
    """Whatever was written when the process died: what is inside becomes durable with the commit.

    Until then it is performed again, under the same keys.
    """
    shots: list[bytes] = []
    first = Database()
    async with open_session(
        order(), *first.handlers, id="run", observe=[lambda _: shots.append(session.log.to_json())]
    ) as session:
        await session.outcome()
    assert first.keys == KEYS

    performed: list[int] = []
    for shot in shots:
        log = Log.from_json(shot)
        was_committed = any(one.sig == "transact" and one.state == "executed" for one in log.entries)
        database = Database()
        if was_committed:
            for account in ("a", "b"):
                database.connection.execute("INSERT INTO bookings VALUES (?, 5, NULL)", (account,))
        await finish(log, database)
        assert database.keys == ([] if was_committed else KEYS)
        assert len(database.mails) == 2 - sum(
            one.sig.endswith("mail") and one.state == "executed" for one in log.entries
        )
        performed.append(len(database.keys))
    assert sorted(set(performed)) == [0, 2]


async def test_a_host_that_is_cancelled_inside() -> None:
    """7.7 It is rolled back; the log holds that it was started, nothing more; the next process performs all of it."""

    class Hangs(Database):
        async def book(self, account: str, amount: int) -> int:
            booked = await super().book(account, amount)
            if account == "b" and not self.mails[1:]:
                scope.cancel()
                await anyio.sleep_forever()
            return booked

    database, log = Hangs(), Log()
    with anyio.CancelScope() as scope:
        await start(order(), *database.handlers, id="run", into=log)
    assert (database.story, database.rows) == (["begin", "rollback"], [])
    assert [(one.id, one.state) for one in log.entries] == [("0/1", "executed"), ("0/3", "started")]
    other = Database()
    await finish(log, other)
    assert other.keys == database.keys == KEYS


async def test_a_swallowed_suspension_commits_nothing() -> None:
    """5.8 A body that catches what stops it, and returns, is rolled back all the same."""

    @computation
    async def swallows() -> str:
        await Ledger.book("a", 1)
        try:
            scope.cancel()
            await anyio.sleep_forever()
        except BaseException:  # noqa: BLE001 - what this is about
            return "committed?"
        return "not stopped"

    database, log = Database(), Log()
    with anyio.CancelScope() as scope:
        await start(transact(swallows()), *database.handlers, into=log)
    assert (database.story, database.rows) == (["begin", "rollback"], [])
    assert [one.state for one in log.entries] == ["started"]


async def test_a_commit_is_not_cut_short() -> None:
    """A cancellation that comes during the commit waits for it; what was committed is logged as committed."""
    database, log = Database(), Log()
    database.slow = True
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def cancel() -> None:
                await database.committing.wait()
                scope.cancel()

            group.start_soon(cancel)
            await start(order(), *database.handlers, id="run", into=log)
    assert database.rows == [("a", 5), ("b", 5)]
    assert [one.id for one in log.entries if one.state == "executed"][-1] == "0/3/5"
    await finish(log, database)
    assert database.keys == KEYS


async def test_a_question_inside_is_refused() -> None:
    """7.6 An open transaction does not survive a suspension: a question inside is refused at its line, however deep."""

    @computation
    async def asks() -> Effectful[str]:
        yield Ledger.book("a", 1)
        said = yield Comment("in between")
        yield Return(said)

    @computation
    async def deeper() -> Effectful[str]:
        yield Return((yield asks()))

    database = Database()
    with pytest.raises(
        TransientScopeError, match=r"Comment is asked at .*test_transactions.py:\d+ inside the scope of transact"
    ):
        await start(transact(deeper()), *database.handlers)
    assert (database.story, database.rows) == (["begin", "rollback"], [])
    answered = await start(transact(deeper()), *database.handlers, Comment.always("yes"))
    assert completed(answered).value == "yes"


async def test_an_error_of_the_deployment_rolls_back() -> None:
    """5.6 It is raised with the log; after the fix, a resume performs the whole transaction again."""

    @computation
    async def both() -> Effectful[int]:
        yield Ledger.book("a", 1)
        yield count.put(2)
        yield Return((yield Ledger.book("b", 1)))

    database = Database()
    without = [handler for handler in database.handlers if "count" not in handler.label]
    with pytest.raises(UnhandledEffectError) as caught:
        await start(transact(both()), *without, id="run")
    assert (database.rows, ids(left(caught.value))) == ([], ["0/1"])
    assert completed(await resume(transact(both()), left(caught.value), *database.handlers)).state(count) == 2
    assert database.rows == [("a", 1), ("b", 1)]


# -- a resource that fails ---------------------------------------------------------------------------------------------


@computation
async def caught(comp_of: str) -> Effectful[str]:
    yield count.put(3)
    try:
        yield transact(transfer(5, comp_of))
    except (ConnectionError, RolledBackError) as error:
        yield Return(f"{type(error).__name__} {error} {(yield count.get())}")


@pytest.mark.parametrize(
    ("step", "reason"), [("begin", ""), ("commit", ""), ("rollback", "no")], ids=["begin", "commit", "rollback"]
)
async def test_a_resource_that_fails(step: str, reason: str) -> None:
    """Its error is data: raised at `transact`, kept as the entry's error, raised again on replay without the body."""
    database = Database()
    database.fails[step] = ConnectionError("the database is gone")
    outcome = completed(await start(caught(reason), *database.handlers))

    assert outcome.value == "ConnectionError the database is gone 3"
    assert (database.rows, outcome.output(booked)) == ([], [])
    entry = next(one for one in outcome.log.entries if one.sig == "transact")
    assert (entry.state, entry.error.message if entry.error else "") == ("discarded", "the database is gone")
    other = Database()
    again = completed(await replay(caught(reason), stored(outcome.log), *other.handlers))
    assert (again.value, again.state(count), other.story) == (outcome.value, 3, [])


async def test_an_error_of_a_driver_is_an_effect_error() -> None:
    """6.6 An error that cannot be rebuilt arrives as `EffectError`, on the first run as on replay."""

    class SerializationFailure(Exception):
        pass

    database = Database()
    database.fails["commit"] = SerializationFailure("try again")
    outcome = failed(await start(transact(transfer(1)), *database.handlers, id="run"))
    assert isinstance(outcome.error, EffectError)
    assert outcome.error.message == "try again"
    assert isinstance(failed(await replay(transact(transfer(1)), outcome.log, *database.handlers)).error, EffectError)

    database.fails.clear()
    again = completed(await rerun(transact(transfer(1)), outcome.log, *database.handlers))
    assert (again.value, database.rows) == (2, [("a", 1), ("b", 1)])
    assert database.keys[:2] == database.keys[2:]


# -- cancelled ---------------------------------------------------------------------------------------------------------


async def test_a_run_that_is_cancelled_inside() -> None:
    """7.7 A run cancel rolls back; on replay too the body stops where it stopped, and no resource is opened."""

    @computation
    async def waits() -> Effectful[None]:
        yield count.put(5)
        yield Ledger.book("a", 1)
        arrived.set()
        await anyio.sleep_forever()

    @computation
    async def cleans() -> Effectful[None]:
        yield bracket(Ledger.book("kept", 1), lambda _: transact(waits()), lambda _: Ledger.mail("released"))

    arrived = anyio.Event()
    database = Database()
    async with open_session(cleans(), *database.handlers) as session:
        await arrived.wait()
        outcome = cancelled(await session.cancel("enough"))
    assert (database.rows, database.mails) == ([("kept", 1)], ["released"])
    assert outcome.state(count) == 0
    entry = next(one for one in outcome.log.entries if one.sig == "transact")
    assert (entry.state, entry.error.kind if entry.error else "") == ("discarded", "run-cancel")
    other = Database()
    again = cancelled(await replay(cleans(), stored(outcome.log), *other.handlers))
    assert (again.state(count), other.story, other.mails) == (0, [], [])


async def test_cleanup_under_a_run_cancel_may_hold_a_transaction() -> None:
    """5.3 What releases a resource commits, although the run was cancelled."""

    @computation
    async def waits() -> Effectful[None]:
        arrived.set()
        await anyio.sleep_forever()
        yield Return(None)

    arrived = anyio.Event()
    database = Database()
    async with open_session(waits().ensure(transact(transfer(2))), *database.handlers) as session:
        await arrived.wait()
        outcome = cancelled(await session.cancel("enough"))
    assert (database.rows, outcome.state(count)) == ([("a", 2), ("b", 2)], 1)
    again = await replay(waits().ensure(transact(transfer(2))), stored(outcome.log), *database.handlers)
    assert cancelled(again).state(count) == 1


@pytest.mark.parametrize("where", ["inside", "begin"])
async def test_a_scope_of_the_body_that_gives_it_up(where: str) -> None:
    """6.8 It is rolled back; on replay the strand waits at the same place until the body's scope fires again."""

    class Hangs(Database):
        async def book(self, account: str, amount: int) -> int:
            if account == "b":
                await anyio.sleep_forever()
            return await super().book(account, amount)

        @asynccontextmanager
        async def transaction(self) -> AsyncGenerator[None]:
            if where == "begin":
                await anyio.sleep_forever()
            async with super().transaction():
                yield

    @computation
    async def gives_up() -> Effectful[int]:
        with anyio.move_on_after(0.02):
            yield transact(transfer(5))
        yield Return((yield count.get()))

    database = Hangs()
    outcome = completed(await start(gives_up(), *database.handlers))
    assert (outcome.value, database.rows) == (0, [])
    again = completed(await replay(gives_up(), stored(outcome.log), *Hangs().handlers))
    assert (again.value, again.state(count)) == (0, 0)


# -- divergence, rerun -------------------------------------------------------------------------------------------------


class Version:
    """Which version of `changing` runs."""

    new = False


@computation
async def changing() -> Effectful[int]:
    yield Ledger.book("a", 1)
    if Version.new:
        yield Ledger.book("new", 1)
    yield Return(1)


@pytest.mark.parametrize("allow", [False, True])
async def test_nothing_new_is_performed_in_a_transaction_that_has_ended(
    allow: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """6.4 An effect that was added to a settled transaction is a divergence: nothing is open to perform it in."""

    @computation
    async def asks() -> Effectful[str]:
        yield transact(changing())
        yield Return((yield Comment("then")))

    log = suspended(await start(asks(), *Database().handlers)).log
    monkeypatch.setattr(Version, "new", True)
    database = Database()
    with pytest.raises(DivergenceError) as caught:
        await resume(asks(), stored(log), *database.handlers, answer="yes", allow_divergence=allow)
    assert (database.rows, database.story) == ([], [])
    if allow:
        assert "in the transaction 0/2, which has ended" in str(caught.value)
        assert "behind the transaction" in str(caught.value)


async def test_a_body_that_ends_otherwise_is_a_divergence(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.4 A transaction that was rolled back and now would commit, or the other way round, is refused."""

    @computation
    async def decides() -> Effectful[None]:
        yield Ledger.book("a", 1)
        if not Version.new:
            raise LookupError

    @computation
    async def asks() -> Effectful[None]:
        try:
            yield transact(decides())
        except LookupError:
            yield Comment("rolled back")
        else:
            yield Comment("committed")

    for now in (True, False):
        monkeypatch.setattr(Version, "new", not now)
        log = suspended(await start(asks(), *Database().handlers)).log
        monkeypatch.setattr(Version, "new", now)
        with pytest.raises(DivergenceError, match="the transaction ends in another way than the log holds"):
            await resume(asks(), stored(log), *Database().handlers, answer="yes")


async def test_what_was_rolled_back_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.5 Under an accepted divergence, an effect of a transaction that left no trace is performed."""

    @computation
    async def books() -> Effectful[int]:
        yield Return((yield Ledger.book("a", 1)))

    @computation
    async def fails() -> Effectful[int]:
        yield books()
        yield Throw(LookupError("no"))

    @computation
    async def asks() -> Effectful[str]:
        if Version.new:
            yield Ledger.book("a", 1)
        else:
            try:
                yield transact(fails())
            except LookupError:
                yield Ledger.mail("sorry")
        yield Return((yield Comment("then")))

    log = suspended(await start(asks(), *Database().handlers)).log
    monkeypatch.setattr(Version, "new", True)
    database = Database()
    outcome = await resume(asks(), stored(log), *database.handlers, answer="yes", allow_divergence=True)
    assert completed(outcome).value == "yes"
    assert database.rows == [("a", 1)]


@pytest.mark.parametrize("whose", ["the call's", "another one", "the body's own"])
async def test_a_rerun_performs_the_whole_transaction_again(whose: str) -> None:
    """6.7 What failed in a transaction left no trace: all of it is performed again, under its own keys."""

    class Broken(Database):
        broken = True

        async def book(self, account: str, amount: int) -> int:
            booked = await super().book(account, amount)
            if account == "b" and self.broken and whose != "the body's own":
                raise ConnectionError("gone")
            return booked

    @computation
    async def books() -> Effectful[int]:
        yield Ledger.book("a", 1)
        try:
            yield Ledger.book("b", 1)
        except ConnectionError:
            if whose == "another one":
                raise LookupError from None
            raise
        if database.broken:
            raise LookupError
        yield Return(1)

    @computation
    async def main() -> Effectful[int]:
        yield Ledger.mail("first")
        yield Return((yield transact(books())))

    database = Broken()
    log = failed(await start(main(), *database.handlers)).log
    assert database.rows == []
    database.broken = False
    outcome = completed(await rerun(main(), stored(log), *database.handlers))
    assert (outcome.value, database.rows, database.mails) == (1, [("a", 1), ("b", 1)], ["first"])
    assert database.keys[:2] == database.keys[2:]


# -- with processes ----------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("where", ["inside", "committed"])
def test_kill_9(where: str, backend: str, tmp_path: Path) -> None:
    """Killed before the commit, or between it and its entry: the next process performs it again, under the same keys.

    The database rolls the first one back; the second one it recognises by the keys.
    """
    worker = [sys.executable, "-X", "dev", "-W", "error", str(WORKER), str(tmp_path)]
    with subprocess.Popen([*worker, backend, where], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("hangs" in line for line in process.stdout)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    database = Database(tmp_path / "ledger.db")
    assert database.rows == ([] if where == "inside" else [("a", 5), ("b", 5)])
    log = Log.from_json((tmp_path / "log.json").read_bytes())
    assert next(one.id for one in log.entries if one.state == "started") == "0/3"

    done = subprocess.run([*worker, backend, ""], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "Completed booked 10\n", "")
    assert database.rows == [("a", 5), ("b", 5)]
    assert (tmp_path / "arrived.txt").read_text().split() == ["before", *KEYS, *KEYS, "after"]


# -- in handlers, in loops ---------------------------------------------------------------------------------------------


class Move(Effect[str], frozen=True):
    """Answered by a handler that opens transactions."""

    amount: int


async def move(effect: Move) -> str:
    try:
        return f"{await transact(transfer(effect.amount))}"
    except ValueError as error:
        return str(error)


async def test_a_handler_may_open_transactions() -> None:
    """5.9 When its effect is answered from the log, only what was committed is done to state again."""

    @computation
    async def moves() -> Effectful[list[str]]:
        first = yield Move(5)
        second = yield Move(-3)
        said = yield Comment("then")
        yield Return([first, second, said, f"{(yield count.get())}"])

    def handlers(database: Database) -> list[Handler]:
        return [*database.handlers, Move.handled_by(move)]

    log = suspended(await start(moves(), *handlers(Database()))).log
    other = Database()
    outcome = completed(await resume(moves(), stored(log), *handlers(other), answer="yes"))
    assert outcome.value == ["10", "b has no 3", "yes", "1"]
    assert (outcome.output(booked), other.story) == (["transfer 5"], [])
    await always_cold(moves(), fresh=lambda: handlers(Database()), answer=lambda _: "yes")


@computation
async def turns(number: int) -> Effectful[int]:
    done = 0
    while done < number:
        done = yield mark_loop("turns", int, carry=done)
        yield transact(batch(done))
        done += 1
    yield Return(done)


@computation
async def batch(turn: int) -> Effectful[None]:
    done = 0
    while done < 2:
        done = yield mark_loop("batch", int, carry=done)
        yield count.modify(lambda number: number + 1)
        yield Ledger.book(f"{turn}.{done}", 1)
        done += 1


async def test_loops_around_and_inside() -> None:
    """6.10 A loop around transactions prunes them; one inside prunes within; both resume anywhere."""
    cold = completed(await always_cold(turns(3), fresh=lambda: Database().handlers))

    assert cold.state(count) == 6
    assert [one.id for one in cold.log.entries if one.sig == "transact"] == ["0/turns@0#3/2"]


# -- misuse ------------------------------------------------------------------------------------------------------------


async def test_a_rollback_outside_is_refused() -> None:
    """5.6 `rollback` outside of a transaction is a misuse, named with its line."""

    @computation
    async def nowhere() -> Effectful[None]:
        yield rollback("why")

    with pytest.raises(
        MisuseError, match=r"rollback\('why'\) at .*test_transactions.py:\d+ stands in the body of no transact"
    ):
        await start(nowhere(), *Database().handlers)


async def test_a_transaction_needs_its_handler() -> None:
    """Without a handler nobody would commit anything: it is refused, as any effect that nothing handles."""
    comp: Computation[Any] = transact(transfer(1))
    with pytest.raises(UnhandledEffectError, match="nothing handles transact at"):
        await start(comp, Ledger.handler(Database()))
