"""5.6: what a body may not do, and what the errors of a deployment say and carry."""

import inspect
import re
from collections.abc import Callable
from typing import Any, cast

import pytest

from skuld_async import (
    DeclarationError,
    DeploymentError,
    Effectful,
    EventAccumulator,
    Handler,
    Log,
    MisuseError,
    NotAnEffectError,
    Reader,
    Return,
    SkuldError,
    State,
    Throw,
    UnencodableError,
    UnhandledEffectError,
    Yield,
    computation,
    port,
    resume,
    run,
    start,
)

from .parts import Bank, Charge, Double, double


def line_of(definition: Any, text: str) -> str:
    """``file:number`` of the only line of a body that contains *text*."""
    lines, first = inspect.getsourcelines(definition)
    (offset,) = [index for index, line in enumerate(lines) if text in line]
    return f"{__file__}:{first + offset}"


@computation
async def pay() -> Effectful[str]:
    yield Return((yield Charge()))


async def forgot_the_decorator() -> str:
    return await Charge()


NOT_EFFECTS: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: 42, "42", "Yield an effect, a computation, or Return(value)."),
    (lambda: None, "None", "Yield an effect, a computation, or Return(value)."),
    (lambda: "text", "'text'", "Yield an effect, a computation, or Return(value)."),
    (lambda: [Charge()], "[Charge(cents=1)]", "Yield an effect, a computation, or Return(value)."),
    (lambda: pay, "pay", "Did you forget to call it?"),
    (lambda: Charge, "Charge", "Did you forget to call it?"),
    (forgot_the_decorator, "forgot_the_decorator", "Decorate the function with @computation"),
]


@pytest.mark.parametrize("nested", [False, True], ids=["outermost", "nested"])
@pytest.mark.parametrize(
    ("make", "shown", "hint"),
    NOT_EFFECTS,
    ids=["int", "None", "str", "list", "function not called", "class", "coroutine"],
)
async def test_only_effects_and_computations_are_yielded(
    make: Callable[[], Any], shown: str, hint: str, nested: bool
) -> None:
    """5.6 Anything yielded that is neither effect nor computation is a `TypeError` at that line."""

    @computation
    async def body() -> Effectful[int]:
        yield make()
        yield Return(1)

    @computation
    async def outer() -> Effectful[int]:
        yield Return((yield body()))

    with pytest.raises(TypeError) as caught:
        await run(outer() if nested else body())

    error = caught.value
    assert isinstance(error, NotAnEffectError)
    assert isinstance(error, MisuseError)
    assert shown in error.received
    assert hint in str(error)
    assert error.line == line_of(body, "yield make()")


async def test_a_misuse_after_return_is_one_too() -> None:
    """5.6 After `Return` it is refused all the same."""

    @computation
    async def body() -> Effectful[int]:
        yield Return(1)
        yield 2  # type: ignore[misc]  # pyright: ignore[reportReturnType]

    with pytest.raises(NotAnEffectError, match="yielded 2"):
        await run(body())


cart = State("cart", int)
limits = Reader("limits", int)
log = EventAccumulator("log", str)


@pytest.mark.parametrize("by_yield", [True, False], ids=["yield", "await"])
async def test_an_unhandled_effect_names_the_handlers_in_scope_and_the_fix(by_yield: bool) -> None:
    """5.6 An effect that nothing handles lists the handlers in scope and shows the two lines that would fix it."""

    @computation
    async def asks() -> Effectful[None]:
        yield Charge()

    @computation
    async def awaits() -> None:
        await Charge()

    body = asks if by_yield else awaits

    with pytest.raises(UnhandledEffectError) as caught:
        await run(body().handle(Double.handled_by(double), log.handler()), cart.handler(0), limits.handler(1))

    error = caught.value
    assert error.effect == "Charge"
    assert error.line == line_of(body, "Charge()")
    assert error.installed == ("Double", "EventAccumulator[log]", "State[cart]", "Reader[limits]")
    text = str(error)
    assert text.startswith(
        f"nothing handles Charge at {error.line} (handlers in scope: Double, EventAccumulator[log], "
    )
    assert "start(comp, Charge.handled_by(function))" in text
    assert "start(comp, Charge.always(answer))" in text
    assert not hasattr(error, "log")


async def test_no_handlers_at_all_is_said() -> None:
    """5.6 Where no handler is in scope the message says `none`."""
    with pytest.raises(UnhandledEffectError, match=r"handlers in scope: none"):
        await run(pay())


async def test_the_lines_that_the_message_shows_do_fix_it() -> None:
    """5.6 Both lines work as they stand: `.handled_by(function)` and `.always(answer)`."""
    assert await run(pay(), Charge.handled_by(Bank().charge)) == "charged 1"
    assert await run(pay(), Charge.always("free")) == "free"


async def test_the_way_out_for_a_key_is_its_handler() -> None:
    """5.6 The effects of a key have no `handled_by` of their own: the line that the message shows is the key's."""

    @computation
    async def body() -> Effectful[int]:
        yield Return((yield cart.get()))

    with pytest.raises(UnhandledEffectError) as caught:
        await run(body())
    assert "start(comp, key.handler(...))   # of the key that was declared as State[cart]" in str(caught.value)
    assert "handled_by" not in str(caught.value)
    assert await run(body(), cart.handler(3)) == 3


async def test_a_twin_key_is_pointed_out() -> None:
    """5.6 Where a handler for another key of the same name is in scope, the message says so."""
    twin = State("cart", int)

    @computation
    async def body() -> Effectful[int]:
        yield Return((yield cart.get()))

    with pytest.raises(UnhandledEffectError) as caught:
        await run(body(), twin.handler(1))
    assert "declare the key or port once and import it" in str(caught.value)

    with pytest.raises(UnhandledEffectError) as caught:
        await run(body(), limits.handler(1))
    assert "declare the key" not in str(caught.value)


async def test_a_question_without_a_log_is_unhandled() -> None:
    """5.6 `run` has no log to suspend to: a `Yield` that no handler answers is an unhandled effect."""

    class Approval(Yield[bool], frozen=True):
        amount: int

    @computation
    async def body() -> Effectful[bool]:
        yield Return((yield Approval(1)))

    with pytest.raises(UnhandledEffectError, match=r"Approval\.always\(answer\)"):
        await run(body())
    assert await run(body(), Approval.always(True)) is True


async def test_the_body_sees_a_deployment_error_at_its_line() -> None:
    """5.6 The error is raised at the request: the body's `finally` runs, its traceback shows that line."""
    seen: list[str] = []

    @computation
    async def body() -> Effectful[str]:
        try:
            yield Return((yield Charge()))
        finally:
            seen.append("finally")

    with pytest.raises(UnhandledEffectError) as caught:
        await run(body())

    assert seen == ["finally"]
    assert line_of(body, "Charge()") in [f"{entry.path}:{entry.lineno + 1}" for entry in caught.traceback]


def test_errors_are_picklable_data_with_a_way_out() -> None:
    """Errors have typed fields first, all of them in `args`, the sentence in `__str__`, and the way out."""
    error = UnhandledEffectError("Charge", ["State[cart]"], "shop.py:3")
    again = UnhandledEffectError(*error.args)
    assert (again.effect, again.installed, again.line, again.hint) == ("Charge", ("State[cart]",), "shop.py:3", "")
    assert str(again) == str(error)
    assert isinstance(error, DeploymentError)
    assert isinstance(error, SkuldError)


async def test_an_answer_of_always_is_given_to_subclasses_too() -> None:
    """5.6 A handler for an effect class answers its subclasses; the closest base in the nearest scope wins."""

    class Surcharge(Charge, frozen=True):
        pass

    @computation
    async def body() -> Effectful[list[str]]:
        yield Return([(yield Charge()), (yield Surcharge())])

    handlers: list[Handler] = [Charge.always("base"), Surcharge.always("sub")]
    assert await run(body(), Charge.always("base")) == ["base", "base"]
    assert await run(body(), *handlers) == ["base", "sub"]
    assert await run(body(), *reversed(handlers)) == ["base", "sub"]
    assert await run(body().handle(Charge.always("near")), *handlers) == ["near", "near"]


@port
async def quote(item: str) -> int:
    return len(item)


run_, start_, resume_ = cast("Any", run), cast("Any", start), cast("Any", resume)  # by those without a type checker
GIVEN: list[tuple[Callable[[], Any], str, str]] = [
    (lambda: run_(pay), "it is not called", "write run(pay(...), *handlers)"),
    (lambda: start_(pay), "it is not called", "write start(pay(...), *handlers)"),
    (lambda: run_(Charge()), "requested by a computation", "put it into one"),
    (lambda: start_(forgot_the_decorator), "this is no computation", "write start(comp(...), *handlers)"),
    (lambda: run_(pay(), [Charge.always("paid")]), "this is no handler", "unpack it: start(comp, *handlers)"),
    (lambda: start_(pay(), quote), "this is no handler", "quote.default() or .always(answer)"),
    (lambda: start_(pay(), State("misuse.given", int)), "this is no handler", "State[misuse.given].handler(...)"),
    (lambda: start_(pay(), Charge), "this is no handler", "handled_by(function)"),
    (lambda: resume_(pay(), b"{}"), "this is no log", "Log.from_json(data)"),
    (lambda: resume_(pay, Log()), "it is not called", "write resume(pay(...), *handlers)"),
]


@pytest.mark.parametrize(("give", "problem", "way_out"), GIVEN)
async def test_what_is_given_to_a_verb_is_checked(give: Callable[[], Any], problem: str, way_out: str) -> None:
    """5.6 A slip in the call of a verb is refused with what to write, before anything is performed."""
    with pytest.raises(DeclarationError, match=re.escape(problem)) as caught:
        await give()
    assert way_out in str(caught.value)


def test_a_body_that_yields_is_annotated_as_one() -> None:
    """5.2 An async generator that says it returns an int is refused where it is declared."""
    with pytest.raises(DeclarationError, match=r"annotate it -> Effectful\[int\]"):

        @computation  # type: ignore[arg-type]
        async def count() -> int:  # type: ignore[misc]  # pyright: ignore[reportInvalidTypeForm]
            yield Charge()  # pyright: ignore[reportReturnType]


async def test_a_result_that_was_never_requested_is_named() -> None:
    """5.6 `Return(effect)` says that nobody has requested it."""

    @computation
    async def forgets() -> Effectful[str]:
        request: Any = Charge()
        yield Return(request)

    with pytest.raises(UnencodableError, match="a request that nobody has made"):
        await start(forgets())


async def test_a_failed_run_says_why_when_its_log_is_printed() -> None:
    """`print(log)` shows the error of a failed run, and the entry that it came from."""

    @computation
    async def fails() -> Effectful[None]:
        yield Throw(LookupError("no such thing"))

    log = (await start(fails(), id="run-1")).log
    assert str(log).startswith("run run-1: test_a_failed_run")
    assert "fails, failed at 0/1 with LookupError no such thing" in str(log).splitlines()[0]
