"""Random concurrent programs: workflows as data, side by side in every way; and the strategies that make them."""

import functools
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Protocol, TypeAlias, cast

from hypothesis import strategies as st
from msgspec import Struct

from skuld_async import (
    Clock,
    DomainError,
    Effect,
    Effectful,
    EventAccumulator,
    Fresh,
    Parallel,
    Port,
    Random,
    Return,
    State,
    TimedOut,
    Won,
    Writer,
    Yield,
    bracket,
    computation,
    operation,
    with_timeout,
)


class Put(Struct, frozen=True, tag=True):
    number: int


class Read(Struct, frozen=True, tag=True):
    """State, and what was told so far."""


class Note(Struct, frozen=True, tag=True):
    text: str


class Happen(Struct, frozen=True, tag=True):
    number: int


class Now(Struct, frozen=True, tag=True):
    """The time, which is no part of the result."""


class Draw(Struct, frozen=True, tag=True):
    """What chance gives."""


class Call(Struct, frozen=True, tag=True):
    """A call outside, which takes its time; it fails for some numbers."""

    number: int


class Count(Struct, frozen=True, tag=True):
    """A call outside that is answered at once."""

    number: int


class Relay(Struct, frozen=True, tag=True):
    """A call whose handler is a computation that calls and tells."""

    number: int


class Ask(Struct, frozen=True, tag=True):
    """A question, with a time or without."""

    about: str
    minutes: int | None = None


class Pass(Struct, frozen=True, tag=True):
    """Time passes."""

    minutes: int


class Hold(Struct, frozen=True, tag=True):
    """Steps with something that was acquired, and has to be released, side by side with calls that do not fail."""

    steps: list["Step"]
    beside: list[int] = []


class Ensure(Struct, frozen=True, tag=True):
    """Steps with their cleanup."""

    steps: list["Step"]
    cleanup: list["Step"]


class Try(Struct, frozen=True, tag=True):
    """Steps whose error is an answer."""

    steps: list["Step"]


class Sub(Struct, frozen=True, tag=True):
    """A computation with a scope of its own."""

    steps: list["Step"]
    number: int


class All(Struct, frozen=True, tag=True):
    branches: list[list["Step"]]
    settle: bool = False


class Map(Struct, frozen=True, tag=True):
    branches: list[list["Step"]]
    limit: int | None = None
    settle: bool = False


class Race(Struct, frozen=True, tag=True):
    branches: list[list["Step"]]


class Timed(Struct, frozen=True, tag=True):
    """Steps that have a time."""

    steps: list["Step"]
    minutes: int


Step: TypeAlias = (
    Put
    | Read
    | Note
    | Happen
    | Now
    | Draw
    | Call
    | Count
    | Relay
    | Ask
    | Pass
    | Hold
    | Ensure
    | Try
    | Sub
    | All
    | Map
    | Race
    | Timed
)

total = State("total", int)
notes = Writer("notes", str)


class Happened(Struct, frozen=True):
    number: int


events = EventAccumulator("events", Happened)


class Busy(Exception):
    """An error that `Outside.fetch` declares."""


class Broken(DomainError):
    number: int


class Outside(Port, Protocol):
    @operation(raises=(Busy,))
    async def fetch(self, number: int) -> str: ...

    @operation
    async def acquire(self) -> str: ...

    @operation
    async def release(self, what: str) -> None: ...


class Tick(Effect[int], frozen=True):
    """Has a sync handler."""

    number: int


class Send(Effect[str], frozen=True):
    """Has a handler that requests effects itself."""

    number: int


class Question(Yield[str], frozen=True):
    about: str


def is_failing(number: int) -> bool:
    """Whether a call with *number* fails."""
    return number % 5 == 0


def failure(number: int) -> Exception:
    """How it fails."""
    errors: list[Exception] = [Busy(number), Broken(number), LookupError(number), RuntimeError(complex(number))]
    return errors[number // 5 % len(errors)]


def answer(question: Question) -> str:
    """The answer to *question*."""
    return f"answer to {question.about}"


def shown(said: Any) -> str:
    """What a step saw, the same on each run."""
    if isinstance(said, BaseExceptionGroup):
        return f"{said.message} {_all_shown(cast('Sequence[Any]', said.exceptions))}"  # pyright: ignore[reportUnknownMemberType]
    if isinstance(said, BaseException):
        return f"{type(said).__name__} {said}"
    if isinstance(said, TimedOut):
        return "timed out"
    if isinstance(said, Won):
        return f"{said.name} with {shown(said.value)}"  # pyright: ignore[reportUnknownMemberType] - of whatever type
    if isinstance(said, tuple | list):
        kind = "tuple" if isinstance(said, tuple) else "list"
        return f"{kind} {_all_shown(cast('Sequence[Any]', said))}"
    return f"{said}"


def _all_shown(said: Sequence[Any]) -> list[str]:
    return [shown(one) for one in said]


@computation
async def program(steps: list[Step]) -> Effectful[list[str]]:  # noqa: C901, PLR0912 - a case a step
    """Do the steps; what each of them saw is the result."""
    seen: list[Any] = []
    for step in steps:
        match step:
            case Put(number):
                yield total.put(number)
            case Read():
                seen.append(f"{(yield total.get())} {(yield notes.peek())}")
            case Note(text):
                yield notes.tell(text)
            case Happen(number):
                yield events.emit(Happened(number))
            case Now():
                yield Clock.now()
            case Draw():
                seen.append(f"{(yield Fresh.uuid())} {(yield Random.int(0, 100))}")
            case Call(number):
                seen.append((yield Outside.fetch(number)))
            case Count(number):
                seen.append((yield Tick(number)))
            case Relay(number):
                seen.append((yield Send(number)))
            case Ask(about, minutes):
                asked = Question(about)
                seen.append((yield asked if minutes is None else asked.within(timedelta(minutes=minutes))))
            case Pass(minutes):
                yield Clock.sleep(timedelta(minutes=minutes))
            case Hold(inner, beside):
                release = functools.partial(releasing, beside)
                seen.append((yield bracket(Outside.acquire(), functools.partial(holding, inner), release)))
            case Ensure(inner, cleanup):
                seen.append((yield program(inner).ensure(program(cleanup))))
            case Try(inner):
                try:
                    seen.append((yield program(inner)))
                except Exception as error:  # noqa: BLE001 - it is an answer as well
                    seen.append(error)
            case Sub(inner, number):
                seen.append((yield program(inner).handle(total.handler(number), notes.handler())))
            case All(branches, settle):
                made = [program(branch) for branch in branches]
                seen.append((yield Parallel.all(*made, settle=True) if settle else Parallel.all(*made)))
            case Map(branches, limit, settle):
                if settle:
                    seen.append((yield Parallel.map(program, branches, limit=limit, settle=True)))
                else:
                    seen.append((yield Parallel.map(program, branches, limit=limit)))
            case Race(branches):
                seen.append((yield Parallel.race(**{f"b{place}": program(one) for place, one in enumerate(branches)})))
            case Timed(inner, minutes):
                seen.append((yield with_timeout(program(inner), timedelta(minutes=minutes))))
    yield Return([shown(said) for said in seen])


def holding(steps: list[Step], _what: str) -> Any:
    """What is done with what was acquired."""
    return program(steps)


@computation
async def releasing(beside: list[int], what: str) -> Effectful[None]:
    """Ends with the release of *what*."""
    if beside:
        yield Parallel.map(Outside.fetch, beside)
    yield Outside.release(what)


@computation
async def sent(effect: Send) -> Effectful[str]:
    """Handles `Send`."""
    yield notes.tell(f"send {effect.number}")
    said = yield Outside.fetch(effect.number)
    yield total.modify(lambda number: number + 1)
    yield events.emit(Happened(effect.number))
    yield Return(f"sent {said}")


_numbers = st.integers(1, 30)
_good_numbers = _numbers.filter(lambda number: not is_failing(number))
_bad_numbers = _numbers.filter(is_failing)
_minutes = st.integers(1, 4)
_texts = st.sampled_from("abc")


def _simple(calls: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    local = st.one_of(
        st.builds(Put, _numbers),
        st.builds(Read),
        st.builds(Note, _texts),
        st.builds(Happen, _numbers),
        st.builds(Now),
        st.builds(Draw),
    )
    return st.one_of(calls, local, calls, st.builds(Count, _numbers), st.builds(Ask, _texts), st.builds(Pass, _minutes))


def _calls(numbers: st.SearchStrategy[int]) -> st.SearchStrategy[Step]:
    return st.builds(Call, numbers) | st.builds(Relay, numbers)


def _inner(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.lists(steps, min_size=1, max_size=3) | st.lists(steps, max_size=3)


def _branches(inner: st.SearchStrategy[list[Step]], least: int = 0) -> st.SearchStrategy[list[list[Step]]]:
    return st.lists(inner, min_size=2, max_size=3) | st.lists(inner, min_size=least, max_size=2)


def _alone(step: Step) -> list[Step]:
    return [step]


def _calm(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    inner = _inner(steps)
    branches = _branches(inner)
    failing = _calls(_bad_numbers).map(_alone)
    return st.one_of(
        st.builds(All, branches, st.booleans()),
        st.builds(Map, branches, st.none() | st.integers(1, 2), st.booleans()),
        st.builds(Hold, inner, st.lists(_good_numbers, max_size=2)),
        st.builds(Ensure, inner, inner),
        st.builds(Sub, inner, _numbers),
        st.builds(Try, inner | failing),
        st.builds(All, st.lists(inner | failing, min_size=1, max_size=3), st.just(value=True)),
    )


def _wild(steps: st.SearchStrategy[Step]) -> st.SearchStrategy[Step]:
    inner = _inner(steps)
    branches = _branches(inner)
    concurrent = st.one_of(
        st.builds(All, branches, st.booleans()),
        st.builds(Map, branches, st.none() | st.integers(1, 2), st.booleans()),
        st.builds(Race, _branches(inner, 1)),
        st.builds(Timed, inner, _minutes),
    )
    return st.one_of(
        concurrent,
        st.builds(Try, concurrent.map(_alone)),
        _calm(steps),
        st.builds(Ask, _texts, _minutes),
        _calls(_bad_numbers),
    )


calm: st.SearchStrategy[list[Step]] = st.lists(
    st.recursive(_simple(_calls(_good_numbers)), _calm, max_leaves=12), min_size=1, max_size=4
)
"""Programs whose result does not depend on time: nobody wins or loses, and what fails stops nobody else."""

wild: st.SearchStrategy[list[Step]] = st.lists(
    st.recursive(_simple(_calls(_numbers)), _wild, max_leaves=16), min_size=1, max_size=4
)
"""Any programs."""
