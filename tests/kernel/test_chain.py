"""5.11: interceptors and observers."""

from collections.abc import Awaitable
from typing import Any

import anyio
import pytest

from skuld_async import (
    Effectful,
    Fresh,
    Interceptor,
    Observation,
    Perform,
    Request,
    Return,
    Throw,
    UnhandledEffectError,
    computation,
    run,
)

from .parts import Bank, Boom, Charge, Double, Refund, boom, double, double_later


@computation(name="pay")
async def pay() -> Effectful[list[str]]:
    first = yield Charge(1)
    second = await Refund(2)
    yield Return([first, second])


def naming(name: str, did: list[str]) -> Interceptor:
    async def intercept(request: Request, perform: Perform) -> Any:
        did.append(f"{name} before {type(request.effect).__name__}")
        answer = await perform(request)
        did.append(f"{name} after {answer}")
        return answer

    return intercept


async def test_interceptors_stand_around_the_handler_the_first_outermost() -> None:
    """5.11 Interceptors see each effect on its way to the handler and its answer, the first outermost."""
    did: list[str] = []

    answers = await run(pay(), *Bank().handlers(), intercept=[naming("a", did), naming("b", did)])

    assert answers == ["charged 1", "refunded 2"]
    assert did == [
        "a before Charge",
        "b before Charge",
        "b after charged 1",
        "a after charged 1",
        "a before Refund",
        "b before Refund",
        "b after refunded 2",
        "a after refunded 2",
    ]


async def test_a_request_says_what_is_asked_where_and_by_whom() -> None:
    """5.11 A request has effect, id and the name of the computation that asks."""
    seen: list[Request] = []

    async def watch(request: Request, perform: Perform) -> Any:
        seen.append(request)
        return await perform(request)

    @computation(name="outer")
    async def outer() -> Effectful[None]:
        yield Charge(0)
        yield pay()

    await run(outer(), *Bank().handlers(), intercept=[watch])

    assert [(request.effect, request.id, request.computation) for request in seen] == [
        (Charge(0), "0/1", "outer"),
        (Charge(1), "0/3", "pay"),
        (Refund(2), "0/4", "pay"),
    ]


async def test_interceptors_change_answer_and_refuse() -> None:
    """5.11 An interceptor may answer itself, change request or answer, raise, retry, or wait."""
    bank = Bank()
    failures = 2

    async def discount(request: Request, perform: Perform) -> Any:
        if isinstance(request.effect, Charge):
            return await perform(Request(Charge(request.effect.cents - 1), request.id, request.computation))
        return await perform(request)

    async def retry(request: Request, perform: Perform) -> Any:
        nonlocal failures
        await anyio.lowlevel.checkpoint()
        while failures:
            failures -= 1
        return await perform(request)

    async def deny(request: Request, perform: Perform) -> Any:
        if isinstance(request.effect, Refund):
            raise PermissionError(type(request.effect).__name__)
        return f"<{await perform(request)}>"

    @computation
    async def body() -> Effectful[list[str]]:
        first = yield Charge(5)
        try:
            second = yield Refund(1)
        except PermissionError as error:
            second = f"denied {error}"
        yield Return([first, second])

    answers = await run(body(), *bank.handlers(), intercept=[deny, retry, discount])
    assert answers == ["<charged 4>", "denied Refund"]
    assert bank.performed == ["charge 4"]


async def test_interceptors_see_errors_of_handlers() -> None:
    """5.11 What the handler raises passes through the interceptors, which may turn it into an answer."""

    async def rescue(request: Request, perform: Perform) -> Any:
        try:
            return await perform(request)
        except ValueError as error:
            return f"rescued {error}"

    @computation
    async def body() -> Effectful[list[str]]:
        yield Return([(yield Boom(ValueError("a"))), (await Boom(ValueError("b")))])

    assert await run(body(), Boom.handled_by(boom), intercept=[rescue]) == ["rescued a", "rescued b"]


async def test_interceptors_see_the_effects_that_handle_themselves() -> None:
    """5.11 Effects with a handler of their own (Clock, Fresh) pass the interceptors; control effects do not."""
    did: list[str] = []

    @computation
    async def body() -> Effectful[None]:
        yield Fresh.uuid()
        try:
            yield Throw(ValueError("v"))
        except ValueError:
            pass

    await run(body(), intercept=[naming("a", did)])
    assert did[0] == "a before FreshUUID"
    assert len(did) == 2


async def test_interceptors_see_what_handlers_request() -> None:
    """5.11 What a handler requests passes them too, and an interceptor may request effects in the handler's scope."""
    did: list[str] = []

    async def refund(_effect: Refund) -> str:
        return f"refund of {await Charge(7)}"

    async def audit(request: Request, perform: Perform) -> Any:
        did.append(f"{type(request.effect).__name__} {request.id}")
        if isinstance(request.effect, Refund):
            did.append(str(await Double(4)))
        return await perform(request)

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield Refund()))

    bank = Bank()
    handlers = [Refund.handled_by(refund), Charge.handled_by(bank.charge), Double.handled_by(double)]
    assert await run(body(), *handlers, intercept=[audit]) == "refund of charged 7"
    assert did == ["Refund 0/1", "Double 0/1/1", "8", "Charge 0/1/2"]


@pytest.mark.parametrize("handler", [double, double_later], ids=["sync", "async"])
@pytest.mark.parametrize("intercepted", [False, True], ids=["alone", "outside an interceptor"])
async def test_observers_are_told_of_each_settled_request(handler: Any, intercepted: bool) -> None:
    """5.11 `observe=` stands outside: told once of each settled request, with the answer that the body gets."""
    seen: list[Observation] = []

    def tenfold(request: Request, perform: Perform) -> Awaitable[Any]:
        async def answer() -> Any:
            return 10 * await perform(request)

        return answer()

    @computation(name="body")
    async def body() -> Effectful[list[int]]:
        yield Return([(yield Double(1)), (await Double(2))])

    answers = await run(
        body(), Double.handled_by(handler), intercept=[tenfold] if intercepted else [], observe=[seen.append]
    )

    assert [one.answer for one in seen] == answers == ([20, 40] if intercepted else [2, 4])
    assert [(one.request.effect, one.request.id, one.request.computation) for one in seen] == [
        (Double(1), "0/1", "body"),
        (Double(2), "0/2", "body"),
    ]
    assert not any(one.replayed or one.error for one in seen)


async def test_observers_see_errors_too() -> None:
    """5.11 They are told of errors: of the handler, and of an effect that nothing handles."""
    seen: list[Observation] = []
    also: list[Observation] = []
    error = ValueError("v")

    @computation
    async def body() -> Effectful[None]:
        try:
            yield Boom(error)
        except ValueError:
            pass
        yield Charge()

    with pytest.raises(UnhandledEffectError):
        await run(body(), Boom.handled_by(boom), observe=[seen.append, also.append])
    assert [one.request.effect for one in seen] == [Boom(error), Charge()]
    assert seen[0].error is error
    assert isinstance(seen[1].error, UnhandledEffectError)
    assert also == seen
