"""Promise 8.6 in the log: one entry, one key, and a list of attempts that survives the process."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, nullcontext
from datetime import timedelta
from functools import partial
from typing import Any, ClassVar

import anyio
from msgspec import UNSET

from skuld_async import (
    Cancelled,
    Completed,
    Computation,
    DomainError,
    Effect,
    EffectError,
    Effectful,
    Entry,
    Failed,
    Handler,
    Log,
    Parallel,
    ResultError,
    Retry,
    RetryAfter,
    Return,
    TimedOut,
    Transaction,
    computation,
    current_call,
    fork,
    lifetime,
    open_session,
    replay,
    rerun,
    resume,
    start,
    transact,
    with_timeout,
)
from skuld_async.testing import VirtualClock, always_cold
from tests.suspension.parts import cancelled, completed, failed, host_cancelled, stored, suspended

HOUR = timedelta(hours=1)
SLOWLY = Retry(4, backoff=HOUR, jitter=0, longest=10 * HOUR)
QUICKLY = Retry(3, backoff=timedelta(milliseconds=1))


class Broken(Exception):
    pass


class Declined(Exception):
    pass


class Fetch(Effect[str], frozen=True):
    name: str = "it"

    __retry__: ClassVar[Retry | None] = SLOWLY
    __raises__: ClassVar[tuple[type[Exception], ...]] = (Declined,)


class Release(Effect[str], frozen=True):
    name: str = "it"


class Number(Effect[int], frozen=True):
    __retry__: ClassVar[Retry | None] = QUICKLY


class Far:
    """The other end: fails until a name was called *good* times; keeps each attempt, its key, and the log before it."""

    def __init__(self, good: int = 3, error: Callable[[], Exception] = Broken) -> None:
        self.good = good
        self.error = error
        self.attempts: list[tuple[str, int]] = []
        self.keys: set[str] = set()
        self.log = Log()
        self.shots: list[Log] = []
        self.released: list[str] = []

    async def fetch(self, effect: Fetch) -> str:
        if self.log.header.computation:
            self.shots.append(stored(self.log))
        call = current_call()
        self.keys.add(call.key)
        self.attempts.append((effect.name, call.attempt))
        await anyio.lowlevel.checkpoint()
        if call.attempt < self.good:
            raise self.error()
        return effect.name.upper()

    async def release(self, effect: Release) -> str:
        await anyio.lowlevel.checkpoint()
        self.released.append(effect.name)
        return ""

    @property
    def numbers(self) -> list[int]:
        return [number for _, number in self.attempts]

    def handlers(self, clock: VirtualClock | None = None) -> list[Handler]:
        own = [Fetch.handled_by(self.fetch), Release.handled_by(self.release)]
        return own if clock is None else [clock.handler(), *own]


@computation
async def fetching(policy: bool = True) -> Effectful[str]:
    answer = yield Fetch() if policy else Fetch().retried(None)
    yield Return(answer)


@computation
async def quickly() -> Effectful[str]:
    answer = yield Fetch().retried(QUICKLY)
    yield Return(answer)


def only(log: Log, sig: type[Effect[Any]] = Fetch) -> Entry:
    """The one entry of *sig*."""
    (entry,) = [one for one in log.entries if one.sig == sig.__sig__]
    return entry


async def test_short_waits_are_waited_for_in_place() -> None:
    """8.6 One entry, whatever the number of attempts; the list of the failed ones stays in it."""
    far = Far(error=lambda: Broken("no line"))
    outcome = completed(await start(quickly(), *far.handlers(), id="run"))
    assert outcome.value == "IT"
    assert far.numbers == [1, 2, 3]
    assert far.keys == {"run/0/1"}
    entry = only(stored(outcome.log))
    assert (entry.state, entry.deadline) == ("executed", UNSET)
    assert [(one.error.type, one.error.message) for one in entry.attempts] == [(f"{__name__}:Broken", "no line")] * 2
    assert all(one.at <= one.due <= one.at + QUICKLY.longest for one in entry.attempts)
    assert completed(await replay(quickly(), outcome.log, *far.handlers())).value == "IT"
    assert len(far.attempts) == 3


async def test_long_waits_suspend_the_run() -> None:
    """8.6 A wait beyond `linger` suspends; `wake_at` says until when, and a resume goes on with the next attempt."""
    clock, far = VirtualClock(), Far()
    began = clock.now
    first = suspended(await start(fetching(), *far.handlers(clock)))
    assert (first.wake_at, first.log.header.status) == (began + HOUR, "suspended")

    early = suspended(await resume(fetching(), stored(first.log), *far.handlers(clock)))  # too early
    assert early.wake_at == began + HOUR
    assert early.log.to_json() == first.log.to_json()
    assert far.numbers == [1]

    clock.advance(HOUR)  # just in time
    second = suspended(await resume(fetching(), stored(early.log), *far.handlers(clock)))
    assert second.wake_at == clock.now + 2 * HOUR
    assert [(one.at, one.due) for one in only(second.log).attempts] == [
        (began, began + HOUR),
        (began + HOUR, began + 3 * HOUR),
    ]

    clock.advance(30 * HOUR)  # too late
    outcome = completed(await resume(fetching(), stored(second.log), *far.handlers(clock)))
    assert (outcome.value, outcome.log.header.status) == ("IT", "completed")
    assert far.numbers == [1, 2, 3]
    assert len(far.keys) == 1
    assert len(only(first.log).attempts) == 1  # the caller's log stays as it is


async def test_time_passes_in_an_open_session() -> None:
    """8.6 In an open session the call is tried again when its time has come, and the run counts as moving then."""
    clock, far = VirtualClock(), Far()
    async with open_session(fetching(), *far.handlers(clock)) as session:
        for number, hours in ((1, 1), (2, 2)):
            outcome = suspended(await session.outcome())
            assert outcome.wake_at == clock.now + hours * HOUR
            assert far.numbers[-1] == number
            clock.advance(hours * HOUR)
        assert completed(await session.outcome()).value == "IT"
        assert session.log.header.status == "completed"


async def test_the_last_error_arrives() -> None:
    """8.6 When the attempts are used up, the last error is raised at the line, and notes their number on replay too."""
    far = Far(9)
    outcome = failed(await start(quickly(), *far.handlers()))
    entry = only(outcome.log)
    assert entry.error is not UNSET
    assert (entry.state, entry.error.type, len(entry.attempts)) == ("discarded", f"{__name__}:Broken", 2)
    for one in (outcome, failed(await replay(quickly(), stored(outcome.log), *far.handlers()))):
        assert isinstance(one.error, EffectError)
        assert one.error.__notes__[0] == "after 3 attempts"
    assert far.numbers == [1, 2, 3]


async def test_a_crash_at_any_moment() -> None:
    """8.6 Wherever the process dies, the list of attempts is kept: the attempt that it died in is made again."""
    for moment in range(3):
        clock, far = VirtualClock(), Far()
        outcome: Any = suspended(await start(fetching(), *far.handlers(clock), into=far.log))
        while not isinstance(outcome, Completed):
            clock.advance(outcome.wake_at - clock.now)
            far.log = Log()
            outcome = await resume(fetching(), stored(outcome.log), *far.handlers(clock), into=far.log)
        shot = far.shots[moment]
        assert (only(shot).state, len(only(shot).attempts)) == ("started", moment)

        far.attempts.clear()
        outcome = await resume(fetching(), shot, *far.handlers(clock))
        while not isinstance(outcome, Completed):
            clock.advance(outcome.wake_at - clock.now)
            outcome = await resume(fetching(), stored(outcome.log), *far.handlers(clock))
        assert far.numbers == [1, 2, 3][moment:]
        assert len(far.keys) == 1


async def test_it_comes_to_the_same_when_it_is_resumed_at_every_effect() -> None:
    """8.6 A run whose calls are tried again comes to the same, however often it is stopped."""

    @computation
    async def several() -> Effectful[list[str]]:
        both = yield Parallel.all(fetching(), quickly())
        last = yield Fetch("last").retried(QUICKLY)
        yield Return([*both, last])

    outcome = await always_cold(several(), fresh=lambda: Far().handlers())
    assert completed(outcome).value == ["IT", "IT", "LAST"]


async def test_what_is_declared_is_an_answer() -> None:
    """8.6 An error of `raises=` is not retried, and arrives as itself; a policy that names it retries it."""
    far = Far(2, Declined)
    outcome = failed(await start(fetching(), *far.handlers()))
    assert isinstance(outcome.error, Declined)
    assert far.numbers == [1]
    assert not hasattr(only(outcome.log).error, "attempts")

    @computation
    async def insisting() -> Effectful[str]:
        answer = yield Fetch().retried(Retry(3, timedelta(), retry_on=[Declined]))
        yield Return(answer)

    assert completed(await start(insisting(), *far.handlers())).value == "IT"


async def test_the_receiver_says_when() -> None:
    """8.6 `RetryAfter` fixes the next attempt; what is kept is the error that it was raised from."""

    def busy() -> Exception:
        return RetryAfter(5 * HOUR, Broken("busy"))

    clock, far = VirtualClock(), Far(2, busy)
    outcome = suspended(await start(fetching(), *far.handlers(clock)))
    assert outcome.wake_at == clock.now + 5 * HOUR
    (attempt,) = only(outcome.log).attempts
    assert (attempt.error.type, attempt.error.message) == (f"{__name__}:Broken", "busy")

    never = Far(2, lambda: RetryAfter(float("inf")))
    outcome = suspended(await start(fetching(), *never.handlers(clock)))
    assert outcome.wake_at is not None
    assert outcome.wake_at.year == 9999


async def test_a_retry_after_without_a_policy() -> None:
    """6.6 Where nothing says that it is tried again, a `RetryAfter` arrives as itself, and so does it on replay."""
    far = Far(9, lambda: RetryAfter(30))
    outcome = failed(await start(fetching(policy=False), *far.handlers()))
    for one in (outcome, failed(await replay(fetching(policy=False), stored(outcome.log), *far.handlers()))):
        assert isinstance(one.error, RetryAfter)
        assert one.error.seconds == 30


async def test_a_call_that_was_made_is_not_made_again() -> None:
    """6.11 A result that cannot be kept is no failed attempt: the call was made."""
    calls: list[int] = []

    def number(_: Number) -> Any:
        calls.append(current_call().attempt)
        return "no number"

    outcome = failed(await start(asking(Number()), Number.handled_by(number)))
    assert isinstance(outcome.error, ResultError)
    assert calls == [1]


def asking(effect: Effect[Any]) -> Computation[Any]:
    @computation(name="asking")
    async def asks() -> Effectful[Any]:
        answer = yield effect
        yield Return(answer)

    return asks()


async def test_sync_handlers() -> None:
    """8.6 A sync handler is tried again like an async one."""
    calls: list[int] = []

    def number(_: Number) -> int:
        calls.append(current_call().attempt)
        if len(calls) < 3:
            raise Broken
        return 7

    outcome = completed(await start(asking(Number()), Number.handled_by(number)))
    assert (outcome.value, calls) == (7, [1, 2, 3])
    assert len(only(outcome.log, Number).attempts) == 2


async def test_an_attempt_has_its_time() -> None:
    """8.6 An attempt that exceeds the policy's `timeout` is cancelled, and has failed with `TimeoutError`."""
    calls: list[int] = []

    async def hang(_: Number) -> int:
        calls.append(current_call().attempt)
        await anyio.sleep_forever()
        raise AssertionError

    policy = Retry(2, timedelta(), timeout=timedelta(milliseconds=10))
    outcome = failed(await start(asking(Number().retried(policy)), Number.handled_by(hang)))
    assert isinstance(outcome.error, TimeoutError)
    (attempt,) = only(outcome.log, Number).attempts
    assert attempt.error.type == "builtins:TimeoutError"
    assert calls == [1, 2]
    assert isinstance(failed(await replay(asking(Number()), outcome.log, Number.handled_by(hang))).error, TimeoutError)


async def test_a_wait_that_may_not_suspend_is_waited_for_in_place() -> None:
    """8.6 Inside a deadline of the body, a transaction, or a scope that cannot wait, even long waits do not suspend."""
    within = timedelta(milliseconds=20)

    @asynccontextmanager
    async def held() -> AsyncGenerator[list[Handler]]:
        yield []

    @computation
    async def hurried() -> Effectful[str]:
        with anyio.fail_after(60):
            answer = yield Fetch().retried(Retry(3, within, jitter=0))
        yield Return(answer)

    calm = asking(Fetch().retried(Retry(3, within, jitter=0)))
    places: dict[str, Computation[Any]] = {
        "deadline": hurried(),
        "scope": calm.handle(lifetime(held, spans_suspension=False)),
        "transaction": transact(calm),
    }
    for name, comp in places.items():
        far = Far()
        handlers = [*far.handlers(), Transaction.handler(partial(nullcontext))]
        outcome = await start(comp, *handlers, linger=timedelta())
        assert completed(outcome).value == "IT", name
        assert far.numbers == [1, 2, 3]
    suspended(await start(calm, *Far().handlers(), linger=timedelta()))  # else it does


async def test_a_run_that_is_cancelled_between_two_attempts() -> None:
    """7.7 A run cancel ends the wait; cleanup is performed, and each replay comes to the same."""
    clock, far = VirtualClock(), Far()
    comp = fetching().ensure(Release())
    async with open_session(comp, *far.handlers(clock)) as session:
        await session.outcome()
        outcome = cancelled(await session.cancel("enough"))
    entry = only(outcome.log)
    assert entry.error is not UNSET
    assert (entry.state, entry.error.kind, len(entry.attempts)) == ("discarded", "run-cancel", 1)
    assert far.released == ["it"]
    again = await resume(comp, stored(outcome.log), *far.handlers(clock))
    assert isinstance(again, Cancelled)
    assert (far.numbers, far.released) == ([1], ["it"])


async def test_a_host_that_cancels_between_two_attempts() -> None:
    """7.7 A host cancel leaves the entry as it is: a resume waits until the same moment."""
    far = Far()
    failed_once = anyio.Event()

    async def fetch(effect: Fetch) -> str:
        try:
            return await far.fetch(effect)
        finally:
            failed_once.set()

    log = await host_cancelled(fetching(), Fetch.handled_by(fetch), when=failed_once, linger=2 * HOUR)
    entry = only(stored(log))
    assert (entry.state, len(entry.attempts), entry.deadline) == ("started", 1, entry.attempts[0].due)
    outcome = suspended(await resume(fetching(), stored(log), *far.handlers()))
    assert outcome.wake_at == entry.deadline
    assert far.numbers == [1]


async def test_a_scope_of_the_body_between_two_attempts() -> None:
    """6.8 A scope of the body ends the wait: the entry is discarded, and a replay waits there until it fires."""
    far = Far()

    @computation
    async def hurried() -> Effectful[str]:
        with anyio.move_on_after(0.02):
            yield Fetch()
        yield Release("gave up")
        yield Return("gave up")

    outcome = completed(await start(hurried(), *far.handlers()))
    entry = only(outcome.log)
    assert entry.error is not UNSET
    assert (entry.error.kind, len(entry.attempts)) == ("body-scope", 1)
    assert completed(await resume(hurried(), stored(outcome.log), *far.handlers())).value == "gave up"
    assert (far.numbers, far.released) == ([1], ["gave up"])


async def test_a_time_that_is_over_between_two_attempts() -> None:
    """7.8 `with_timeout` ends the wait, in whichever process its time is over."""
    clock, far = VirtualClock(), Far()

    @computation
    async def limited() -> Effectful[bool]:
        answer = yield with_timeout(fetching(), HOUR / 2)
        yield Return(isinstance(answer, TimedOut))

    first = suspended(await start(limited(), *far.handlers(clock)))
    assert first.wake_at == clock.now + HOUR / 2
    clock.advance(2 * HOUR)
    outcome = completed(await resume(limited(), stored(first.log), *far.handlers(clock)))
    assert outcome.value is True
    assert completed(await replay(limited(), stored(outcome.log), *far.handlers(clock))).value is True
    assert far.numbers == [1]


async def test_a_task_that_fails_between_two_attempts() -> None:
    """6.6 A failed task ends the wait of the strand that forked it, and does so again on replay."""
    far = Far()

    @computation
    async def fails() -> Effectful[None]:
        yield Release("task")
        message = "the task"
        raise ValueError(message)

    @computation
    async def forks() -> Effectful[str]:
        yield fork(fails())
        answer = yield Fetch()
        yield Return(answer)

    outcome = failed(await start(forks(), *far.handlers(), linger=2 * HOUR))
    assert isinstance(outcome.error, ValueError)
    entry = only(outcome.log)
    assert entry.error is not UNSET
    assert entry.error.kind == "task"
    assert isinstance(failed(await replay(forks(), stored(outcome.log), *far.handlers())).error, ValueError)
    assert far.numbers == [1]


async def test_strands_are_tried_again_each_for_itself() -> None:
    """8.6 Several strands wait for their next attempts independently; the run wakes for the first of them."""
    clock, far = VirtualClock(), Far(2)
    began = clock.now

    @computation
    async def one(name: str, hours: int) -> Effectful[str]:
        answer = yield Fetch(name).retried(Retry(3, backoff=hours * HOUR, longest=10 * HOUR, jitter=0))
        yield Return(answer)

    both = Parallel.all(one("slow", 3), one("fast", 1))
    first = suspended(await start(both, *far.handlers(clock), id="run"))
    assert first.wake_at == began + HOUR
    clock.advance(HOUR)
    second = suspended(await resume(both, stored(first.log), *far.handlers(clock)))
    assert second.wake_at == began + 3 * HOUR
    clock.advance(2 * HOUR)
    assert completed(await resume(both, stored(second.log), *far.handlers(clock))).value == ("SLOW", "FAST")
    assert sorted(far.attempts) == [("fast", 1), ("fast", 2), ("slow", 1), ("slow", 2)]
    assert len(far.keys) == 2


async def test_a_rerun_has_all_attempts_again() -> None:
    """6.7 A rerun of a run whose last call used up its attempts begins a new series, under the same key."""
    far = Far(9)
    outcome = failed(await start(quickly(), *far.handlers()))
    again = failed(await rerun(quickly(), stored(outcome.log), *far.handlers()))
    assert far.numbers == [1, 2, 3, 1, 2, 3]
    assert len(far.keys) == 1
    far.good = 2
    assert completed(await rerun(quickly(), stored(again.log), *far.handlers())).value == "IT"


async def test_a_rerun_goes_on_with_a_series_that_was_stopped() -> None:
    """6.7 A branch that was stopped between two attempts, because another failed, goes on with its list."""
    clock, far = VirtualClock(), Far()
    broken = [True]

    async def release(_: Release) -> str:
        if broken:
            await anyio.wait_all_tasks_blocked()  # the other branch waits
            raise Broken
        return "released"

    @computation
    async def later() -> Effectful[str]:
        yield Fetch("first").retried(None)
        answer = yield Release()
        yield Return(answer)

    @computation
    async def both() -> Effectful[tuple[str, str]]:
        answers = yield Parallel.all(fetching(), later())
        yield Return(answers)

    async def fetch(effect: Fetch) -> str:
        return "" if effect.name == "first" else await far.fetch(effect)

    handlers = [clock.handler(), Fetch.handled_by(fetch), Release.handled_by(release)]
    outcome = failed(await start(both(), *handlers))
    broken.clear()
    waits = suspended(await rerun(both(), stored(outcome.log), *handlers))
    entry = next(one for one in waits.log.entries if one.attempts)
    assert (entry.state, len(entry.attempts)) == ("started", 1)
    assert waits.wake_at == clock.now + HOUR
    assert far.numbers == [1]


async def test_a_handler_that_requests_effects_is_not_tried_again() -> None:
    """8.6 What a handler has requested has its answers in the log: its effect fails at once, and its requests retry."""
    far = Far(3)
    outer: list[int] = []

    async def number(_: Number) -> int:
        outer.append(current_call().attempt)
        await Fetch().retried(QUICKLY)
        raise Broken

    outcome = failed(await start(asking(Number()), Number.handled_by(number), *far.handlers()))
    assert outer == [1]
    assert far.numbers == [1, 2, 3]
    assert not only(outcome.log, Number).attempts
    assert isinstance(failed(await replay(asking(Number()), outcome.log, Number.handled_by(number))).error, EffectError)


async def test_the_policy_may_change() -> None:
    """8.6 How often it is tried is not compared on replay: a run goes on by today's policy."""
    clock, far = VirtualClock(), Far(9)
    first = suspended(await start(fetching(), *far.handlers(clock)))
    clock.advance(HOUR)
    second = suspended(await resume(fetching(), stored(first.log), *far.handlers(clock)))

    fewer = asking(Fetch().retried(Retry(2, backoff=HOUR)))
    log = stored(second.log)
    log.header.computation = fewer.name
    log.header.arguments = (await start(fewer, Fetch.always(""))).log.header.arguments
    early = suspended(await resume(fewer, log, *far.handlers(clock)))
    assert early.wake_at == second.wake_at
    clock.advance(2 * HOUR)
    assert isinstance(await resume(fewer, log, *far.handlers(clock)), Failed)
    assert far.numbers == [1, 2, 3]

    without = asking(Fetch().retried(None))
    outcome = failed(await resume(without, log, *far.handlers(clock)))
    assert isinstance(outcome.error, EffectError)
    assert far.numbers == [1, 2, 3, 1]


async def test_chance_is_kept() -> None:
    """8.6 Two runs with one seed wait equally long, two with different ones do not."""
    clock = VirtualClock()
    policy = Retry(3, backoff=HOUR)
    due = [
        suspended(await start(asking(Fetch().retried(policy)), *Far().handlers(clock), seed=seed)).wake_at
        for seed in ("a", "a", "b")
    ]
    assert due[0] == due[1] != due[2]


async def test_what_is_kept_of_an_attempt_is_small() -> None:
    """8.6 Of an attempt its error's type and message are kept, the latter up to 500 characters."""

    class Verbose(DomainError):
        text: str

    far = Far(2, lambda: Verbose("x" * 10_000))
    (attempt,) = only(completed(await start(quickly(), *far.handlers())).log).attempts
    assert attempt.error.type.endswith("Verbose")
    assert len(attempt.error.message) == 501
    assert attempt.error.data is UNSET


async def test_cleanup_waits_for_nobody() -> None:
    """5.3 In the cleanup of a cancelled run, a call whose next attempt is far off is not tried again."""
    clock, far = VirtualClock(), Far()

    @computation
    async def tidies() -> Effectful[None]:
        try:
            yield Fetch("cleanup")
        except EffectError:
            yield Release("all the same")

    comp = asking(Fetch("hang")).ensure(tidies())
    async with open_session(comp, *far.handlers(clock)) as session:
        await session.outcome()
        outcome = cancelled(await session.cancel())
    assert far.released == ["all the same"]
    assert far.attempts == [("hang", 1), ("cleanup", 1)]
    assert [len(entry.attempts) for entry in outcome.log.entries] == [1, 0, 0]
    assert isinstance(await replay(comp, stored(outcome.log), *far.handlers(clock)), Cancelled)
