"""transact where it is easy to get wrong: cut short at begin and commit, asked within, passed over, wired wrongly."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from skuld_async import (
    Command,
    Computation,
    DeclarationError,
    EffectError,
    Effectful,
    Handler,
    MisuseError,
    Observation,
    RerunRefusedError,
    Return,
    Transaction,
    TransientScopeError,
    Yield,
    bracket,
    computation,
    mark_loop,
    open_session,
    replay,
    rerun,
    resume,
    start,
    transact,
)

from .ledger import Database, Ledger, count
from .shop import Comment, cancelled, completed, failed, ids, stored, suspended


@pytest.fixture
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("skuld_async._computation.CLEANUP_GRACE", 0.02)


@computation
async def books() -> Effectful[str]:
    yield count.put(7)
    yield Ledger.book("a", 1)
    yield Return("booked")


@computation
async def books_in_one() -> Effectful[str]:
    yield Return((yield transact(books())))


@computation
async def mails(text: str) -> Effectful[None]:
    yield Ledger.mail(text)


# -- ids ---------------------------------------------------------------------------------------------------------------


@computation
async def turns(account: str) -> Effectful[None]:
    done = 0
    while done < 1:
        done = yield mark_loop("items", int, carry=done)
        yield Ledger.book(account, 1)
        done += 1


@computation
async def turns_in_turns() -> Effectful[None]:
    yield turns("inner")
    done = 0
    while done < 1:
        done = yield mark_loop("items", int, carry=done)
        yield Ledger.book("outer", 1)
        done += 1


@computation
async def turns_in_one() -> Effectful[None]:
    yield transact(turns_in_turns())


async def test_loops_of_one_name_have_ids_of_their_own() -> None:
    """6.2 A loop in the body, and one of that name in what the body calls first: no two calls share a key."""
    database = Database()
    log = completed(await start(turns_in_one(), *database.handlers, id="run")).log

    assert len(set(database.keys)) == len(database.keys) == 2
    assert len(set(ids(stored(log)))) == len(log.entries)


# -- questions ---------------------------------------------------------------------------------------------------------


class Approve(Yield[bool], frozen=True):
    cents: int


class Refund(Command[str], frozen=True):
    cents: int


@computation
async def refund(command: Refund) -> Effectful[str]:
    yield Return("refunded" if (yield Approve(command.cents)) else "refused")


@computation
async def refunds() -> Effectful[str]:
    yield Ledger.book("a", 1)
    yield Return((yield Refund(5).execute()))


async def test_a_question_that_a_handler_asks_for_it_is_refused() -> None:
    """7.6 The transaction would stay open while the handler of what was requested in it waits."""
    database = Database()
    with pytest.raises(TransientScopeError, match=r"Approve is asked at .*edges.py:\d+ inside the scope of transact"):
        await start(transact(refunds()), *database.handlers, Refund.handled_by(refund))
    assert (database.story, database.rows) == (["begin", "rollback"], [])


# -- cut short ---------------------------------------------------------------------------------------------------------


class Slow(Database):
    """A database that takes a while at one of its steps."""

    def __init__(self, at: str) -> None:
        super().__init__()
        self.at = at
        self.arrived = anyio.Event()

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        if self.at == "begin":
            self.arrived.set()
            await anyio.sleep_forever()
        async with super().transaction():
            try:
                yield
            finally:
                if self.at == "end":
                    self.arrived.set()
                    await anyio.sleep(0.02)


@computation
async def fails() -> Effectful[str]:
    yield Ledger.book("a", 1)
    raise ValueError("no")


@computation
async def catches() -> Effectful[str]:
    try:
        yield Return((yield transact(fails())))
    except ValueError:
        yield Return("caught")


@computation
async def goes_on() -> Effectful[None]:
    yield transact(books())
    yield bracket(Ledger.mail("reserve"), lambda _: mails("use"), lambda _: Ledger.mail("release"))


CUT: list[Callable[[], Computation[Any]]] = [
    books_in_one,
    catches,
    lambda: books_in_one().ensure(mails("released")),
    lambda: catches().ensure(mails("released")),
    goes_on,
]


@pytest.mark.parametrize("at", ["begin", "end"])
@pytest.mark.parametrize("make", CUT, ids=["commit", "rollback", "commit, ensure", "rollback, ensure", "bracket"])
async def test_a_run_cancel_while_it_begins_or_ends_takes_effect_there_again(
    make: Callable[[], Computation[Any]], at: str
) -> None:
    """7.7 A replay, which opens no resource, stops where the run stopped; a resume performs nothing behind that."""
    database = Slow(at)
    async with open_session(make(), *database.handlers) as session:
        await database.arrived.wait()
        outcome = cancelled(await session.cancel("enough"))
    for verb in (replay, resume):
        other = Database()
        again = cancelled(await verb(make(), stored(outcome.log), *other.handlers))
        assert again.log.to_json() == outcome.log.to_json()
        assert (other.story, other.mails) == ([], [])


class Hanging(Database):
    """A database whose commit hangs."""

    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        async with super().transaction():
            yield
            self.committing.set()
            await anyio.sleep_forever()


@pytest.mark.usefixtures("short_grace")
async def test_a_commit_that_the_grace_time_cuts_off_is_an_error() -> None:
    """What was cut off is not logged as committed: the resource has failed, and state is what it was."""
    scope = anyio.CancelScope()

    @computation
    async def cancels() -> Effectful[str]:
        yield books()
        scope.cancel()  # behind the last effect
        yield Return("done")

    @computation
    async def main() -> Effectful[str]:
        with scope:
            yield transact(cancels())
        yield Return("given up")

    database = Hanging()
    outcome = failed(await start(main(), *database.handlers))
    assert "the commit was cut off" in str(outcome.error)
    assert (database.rows, outcome.state(count)) == ([], 0)
    assert outcome.log.entries[0].state == "discarded"


@pytest.mark.usefixtures("short_grace")
async def test_a_host_cancel_does_not_wait_for_ever() -> None:
    """7.7 A commit that hangs has the grace time once the host is cancelled, and no more."""
    database = Hanging()
    async with anyio.create_task_group() as group:

        async def run() -> None:
            await start(books_in_one(), *database.handlers)

        group.start_soon(run)
        await database.committing.wait()
        group.cancel_scope.cancel()
    assert database.rows == []


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("at", ["begin", "commit"])
async def test_a_stray_cancellation_of_a_driver_is_an_error(at: str) -> None:
    """What the driver waited for was cancelled, and nobody cancelled the run: an error, also on replay."""

    class Stray(Database):
        @asynccontextmanager
        async def transaction(self) -> AsyncGenerator[None]:
            if at == "begin":
                raise asyncio.CancelledError
            async with super().transaction():
                yield
                raise asyncio.CancelledError

    outcome = failed(await start(books_in_one(), *Stray().handlers))
    assert isinstance(outcome.error, EffectError)
    assert "what the transaction waited for was cancelled" in str(outcome.error)
    with anyio.fail_after(5):
        again = failed(await replay(books_in_one(), stored(outcome.log), *Database().handlers))
    assert str(again.error) == str(outcome.error)


# -- passed over, run again --------------------------------------------------------------------------------------------


class Version:
    """Which version of the workflow runs."""

    new = False


@computation
async def both() -> Effectful[None]:
    if not Version.new:
        yield Ledger.book("a", 1)
    yield Ledger.book("b", 1)
    raise LookupError("no")


@computation
async def moved_out() -> Effectful[str]:
    try:
        yield transact(both())
    except LookupError:
        answer = yield Comment("then")
        if Version.new:
            yield Ledger.book("a", 1)
        yield Return(answer)


async def test_a_part_of_what_was_rolled_back_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.5 An effect that was moved out of a transaction which left no trace is performed."""
    log = suspended(await start(moved_out(), *Database().handlers)).log
    monkeypatch.setattr(Version, "new", True)
    database = Database()
    outcome = await resume(moved_out(), stored(log), *database.handlers, answer="yes", allow_divergence=True)
    assert completed(outcome).value == "yes"
    assert database.rows == [("a", 1)]


@computation
async def first(amount: int) -> Effectful[None]:
    yield Ledger.book("first", amount)


@computation
async def second(amount: int) -> Effectful[None]:
    yield Ledger.book("second", amount)


@computation
async def one_or_two() -> Effectful[str]:
    if Version.new:
        yield transact(first(1))
    yield transact(second(2))
    yield Return((yield Comment("then")))


async def test_transactions_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """6.5 One that was added in front of another is new; the other one is not performed again."""
    log = suspended(await start(one_or_two(), *Database().handlers)).log
    monkeypatch.setattr(Version, "new", True)
    database = Database()
    outcome = await resume(one_or_two(), stored(log), *database.handlers, answer="yes", allow_divergence=True)
    assert completed(outcome).value == "yes"
    assert database.rows == [("first", 1)]


async def test_a_rerun_performs_no_committed_transaction_again() -> None:
    """6.7 Where what failed the run was caught in a transaction that was committed, it is refused."""

    class Broken(Database):
        async def mail(self, text: str) -> None:
            raise ConnectionError(text)

    @computation
    async def keeps_the_error() -> Effectful[Any]:
        yield Ledger.book("a", 1)
        try:
            yield Ledger.mail("hello")
        except ConnectionError as error:
            caught.append(error)

    @computation
    async def raises_later() -> Effectful[None]:
        yield transact(keeps_the_error())
        raise RuntimeError("no mail") from caught.pop()

    caught: list[Exception] = []
    database = Broken()
    log = failed(await start(raises_later(), *database.handlers)).log
    assert log.header.cause == "0/2/2"
    with pytest.raises(RerunRefusedError, match="failed in 0/2, a transaction that was committed"):
        await rerun(raises_later(), log, *database.handlers)
    assert database.story == ["begin", "commit"]


# -- observers, wiring -------------------------------------------------------------------------------------------------


async def test_observers_are_told_when_it_is_settled() -> None:
    """5.11 Not when it begins: who stores the log whenever something was settled stores it with the commit."""
    told: list[tuple[Any, list[str]]] = []

    def observe(seen: Observation) -> None:
        told.append((seen.answer, [one.state for one in session.log.entries if one.sig == "transact"]))

    async with open_session(books_in_one(), *Database().handlers, observe=[observe]) as session:
        completed(await session.outcome())
    assert told[-1] == ("committed", ["executed"])
    assert [state for _, state in told[:-1]] == [["started"]] * 2


class Connection:
    @asynccontextmanager
    async def transaction(self) -> AsyncGenerator[None]:
        yield

    async def begin(self) -> None: ...


connection: Any = Connection()


def test_one_transaction_is_no_handler() -> None:
    """`Transaction.handler(connection.transaction())` is refused where it is written."""
    with pytest.raises(DeclarationError, match=r"pass connection\.transaction, without calling it"):
        Transaction.handler(connection.transaction())


async def test_what_makes_no_context_manager_is_refused() -> None:
    """5.6 The deployment is at fault, not the run."""
    handlers: list[Handler] = [Ledger.handler(Database()), count.handler(0), Transaction.handler(connection.begin)]
    with pytest.raises(MisuseError, match="was given what makes a coroutine: no async context manager"):
        await start(transact(books()), *handlers)


def test_what_is_no_computation_is_not_performed_in_one() -> None:
    """5.6 An effect, or a computation that was not called, is refused with what to write."""
    given: list[Any] = [Ledger.mail("no"), books]
    for one in given:
        with pytest.raises(DeclarationError):
            transact(one)
