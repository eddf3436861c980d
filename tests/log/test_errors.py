"""DESIGN 6.6: errors are data; the first run sees what each replay sees."""

from pathlib import Path
from typing import Any, cast

import pytest
from msgspec import UNSET

from skuld_async import (
    DomainError,
    EffectError,
    Effectful,
    Fresh,
    ResultError,
    Return,
    Throw,
    UndecodableError,
    computation,
    replay,
    resume,
    start,
)

from .shop import Approval, Declined, LateOutOfStock, OutOfStock, Shop, World, completed, failed, stored, suspended


class Surprise(Exception):
    """An error that nobody declared."""


class DeclinedForGood(Declined):
    """What a receiver answers with may derive from what the operation declares."""

    def __init__(self, reason: str, code: int) -> None:
        super().__init__(reason, code)
        self.code = code


class Wrapper(Declined):
    """It cannot be built from its `args`."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"wrapped: {reason}")


class Peculiar(DomainError):
    item: str

    def __init__(self, name_of_the_item: str) -> None:
        super().__init__(item=name_of_the_item)


class Holder(DomainError):
    items: list[str]
    price: float | None = None


async def both(error: Exception, *, pay: bool = False) -> tuple[Exception, Exception, str]:
    """*error* as the body sees it on the first run and on a replay, and its kind in the log."""
    seen: list[Exception] = []

    @computation
    async def catches() -> Effectful[str]:
        try:
            yield (Shop.pay(1) if pay else Shop.charge(1))
        except Exception as caught:  # noqa: BLE001 - whatever it is
            seen.append(caught)
        yield Approval()
        yield Return("done")

    world = World(error)
    log = suspended(await start(catches(), *world.handlers)).log
    completed(await resume(catches(), stored(log), *world.handlers, answer="yes"))
    assert world.calls == ["pay 1" if pay else "charge 1"]
    entry = log.entries[0]
    assert entry.state == "discarded"
    assert entry.error is not UNSET
    assert len(seen) == 2
    return seen[0], seen[1], entry.error.kind


async def test_a_declared_error_arrives_as_itself() -> None:
    """6.6 Errors declared by the operation (`raises=`) arrive as themselves."""
    first, again, kind = await both(Declined("no funds", 3), pay=True)

    assert kind == "declared"
    assert type(first) is type(again) is Declined
    assert first.args == again.args == ("no funds", 3)


async def test_what_derives_from_a_declared_error_arrives_as_itself() -> None:
    """6.6 Errors declared by the operation arrive as themselves, so that `except` finds them by a base class too."""
    first, again, kind = await both(DeclinedForGood("no funds", 3), pay=True)

    assert kind == "declared"
    assert isinstance(first, DeclinedForGood)
    assert isinstance(again, DeclinedForGood)
    assert first.args == again.args == ("no funds", 3)
    assert first.code == again.code == 3


async def test_a_declared_error_that_its_class_cannot_rebuild_arrives_as_an_effect_error_both_times() -> None:
    """6.6 A declared error is rebuilt from its `args`; where that gives another one, the first run sees no more."""
    first, again, kind = await both(Wrapper("boo"), pay=True)

    assert kind == "other"
    assert type(first) is type(again) is EffectError
    assert first.args == again.args


async def test_of_two_classes_of_one_name_the_last_one_arrives() -> None:
    """6.6 A module that was reloaded, as in a notebook, catches what a log holds by its new classes."""

    def define() -> type[DomainError]:
        class Reloaded(DomainError):
            item: str

        return Reloaded

    before, seen = define(), list[Exception]()

    @computation
    async def catches() -> Effectful[str]:
        try:
            yield Shop.charge(1)
        except DomainError as caught:
            seen.append(caught)
        yield Approval()
        yield Return("done")

    world = World(before(item="book"))
    log = suspended(await start(catches(), *world.handlers)).log
    after = define()
    completed(await resume(catches(), stored(log), *world.handlers, answer="yes"))

    assert [type(error) for error in seen] == [before, after]


async def test_a_domain_error_arrives_as_itself_with_its_fields() -> None:
    """6.6 `DomainError`s arrive as themselves: annotated fields, inherited ones, defaults; by calling the class."""
    for error in (OutOfStock("book"), OutOfStock(item="pen", left=2), LateOutOfStock("ink", days=5)):
        first, again, kind = await both(error)
        assert kind == "domain"
        assert first is error
        assert type(again) is type(error)
        assert vars(again)["item"] == vars(error)["item"]
        assert str(again) == str(error)
    assert str(LateOutOfStock("ink", 1, 5)) == "LateOutOfStock(item='ink', left=1, days=5)"
    assert isinstance(LateOutOfStock("ink"), OutOfStock)


async def test_a_domain_error_that_cannot_be_stored_arrives_as_an_effect_error_both_times() -> None:
    """6.6 A DomainError whose fields JSON cannot hold is an error like any other, on the first run too."""
    first, again, kind = await both(Holder(["x"], price=float("nan")))

    assert kind == "other"
    assert type(first) is type(again) is EffectError
    assert first.args == again.args


async def test_a_domain_error_that_its_class_cannot_rebuild_arrives_as_an_effect_error_both_times() -> None:
    """6.6 A DomainError is rebuilt by calling its class; else the first run sees no more than a replay."""
    first, again, kind = await both(Peculiar("book"))

    assert kind == "other"
    assert type(first) is type(again) is EffectError
    assert first.args == again.args


async def test_a_domain_error_checks_its_arguments() -> None:
    """6.6 The constructor of a DomainError takes its fields in order or by name, and nothing else."""
    with pytest.raises(TypeError):
        OutOfStock()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    with pytest.raises(TypeError):
        OutOfStock("book", colour="red")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    assert OutOfStock("book", left=1).args == ("book", 1)


async def test_a_builtin_error_arrives_as_itself() -> None:
    """6.6 Builtins with encodable args arrive as themselves."""
    for error in (
        TimeoutError("slow"),
        KeyError("k"),
        FileNotFoundError(2, "none"),
        ValueError(),
        ZeroDivisionError("x", 1),
    ):
        first, again, kind = await both(error)
        assert kind == "builtin"
        assert type(first) is type(again) is type(error)
        assert first.args == again.args == error.args


async def test_any_other_error_arrives_as_an_effect_error() -> None:
    """6.6 All others arrive as `EffectError(type_name, message, data)` on the first run as well as on replay."""
    original = Surprise("boo", 7)
    first, again, kind = await both(original)

    assert kind == "other"
    assert isinstance(first, EffectError)
    assert isinstance(again, EffectError)
    assert first.args == again.args == ("tests.log.test_errors:Surprise", "('boo', 7)", ["boo", 7])
    assert first.__cause__ is original, "the original is the cause while it is live"
    assert again.__cause__ is None


async def test_arguments_that_json_would_change_are_left_out() -> None:
    """6.6 Data is what JSON gives back as it was, else None: nothing arrives in another shape on replay."""
    for error in (Surprise((1, 2)), Surprise(object()), Surprise(float("inf")), Surprise("\ud800")):
        first, again, _ = await both(error)
        assert isinstance(again, EffectError)
        assert again.data is None
        assert first.args == again.args
    first, again, kind = await both(ValueError((1, 2)))
    assert (kind, type(first), type(again)) == ("other", EffectError, EffectError)


async def test_an_undeclared_error_of_a_known_class_is_not_rebuilt() -> None:
    """6.6 Only what the operation declares comes back as its own class.

    The same error from another operation does not.
    """
    first, again, kind = await both(Declined("no funds"))

    assert kind == "other"
    assert type(first) is type(again) is EffectError


def tree(error: BaseException) -> Any:
    """An error as nested tuples."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        return (group.message, [tree(child) for child in group.exceptions])
    return (type(error), error.args)


async def test_a_group_keeps_its_tree() -> None:
    """6.6 Groups keep their tree."""
    error = ExceptionGroup("outer", [ValueError("v"), ExceptionGroup("inner", [Surprise("s"), OutOfStock("book")])])
    first, again, kind = await both(error)

    surprise = (EffectError, ("tests.log.test_errors:Surprise", "s", ["s"]))
    assert kind == "group"
    assert (
        tree(first)
        == tree(again)
        == (
            "outer",
            [(ValueError, ("v",)), ("inner", [surprise, (OutOfStock, ("book", 0))])],
        )
    )
    assert first.__cause__ is error


async def test_a_discarded_entry_replays_as_its_error_and_fails_the_run_again() -> None:
    """6.6 A discarded entry replays as its error."""

    @computation
    async def fails() -> Effectful[str]:
        yield Return((yield Shop.pay(1)))

    world = World(Declined("no funds"))
    log = failed(await start(fails(), *world.handlers)).log
    again = failed(await replay(fails(), stored(log), *world.handlers))

    assert isinstance(again.error, Declined)
    with pytest.raises(Declined):
        _ = again.value
    assert world.calls == ["pay 1"]


async def test_a_result_that_cannot_be_kept_settles_its_call() -> None:
    """6.6, 6.11 The result of a call already made settles its entry with a `ResultError`; it is never called again."""

    class Liar(World):
        async def charge(self, amount: int) -> str:
            await super().charge(amount)
            return 3  # type: ignore[return-value] # pyright: ignore[reportReturnType]

    seen: list[str] = []

    @computation
    async def catches() -> Effectful[str]:
        try:
            yield Shop.charge(1)
        except ResultError as error:
            seen.append(f"{error.effect}: {error.problem}")
        yield Approval()
        yield Return("done")

    world = Liar()
    log = suspended(await start(catches(), *world.handlers)).log
    for _ in range(2):
        log = suspended(await resume(catches(), stored(log), *world.handlers)).log

    assert seen == ["Shop.charge: Expected `str`, got `int`"] * 3
    assert log.entries[0].state == "discarded"
    assert world.calls == ["charge 1"]


async def test_a_thrown_error_is_the_bodys_own() -> None:
    """6.6 What the body throws itself arrives as it is, on the first run and on replay: nothing of it is decoded."""
    error = Surprise(object())
    seen: list[BaseException] = []

    @computation
    async def throws() -> Effectful[str]:
        try:
            yield Throw(error)
        except Surprise as caught:
            seen.append(caught)
        yield Approval()
        yield Return("done")

    log = suspended(await start(throws())).log
    completed(await resume(throws(), stored(log), answer="yes"))

    assert seen == [error, error]


@pytest.mark.parametrize(
    ("kind", "type_name", "problem"),
    [
        ("declared", "tests.log.shop:Gone", "no longer declares"),
        ("domain", "tests.log.shop:Gone", "is loaded"),
        ("builtin", "builtins:SystemExit", "is no builtin exception"),
        ("builtin", "builtins:eval", "is no builtin exception"),
    ],
)
async def test_an_error_that_todays_classes_cannot_say_is_undecodable(kind: Any, type_name: str, problem: str) -> None:
    """6.6, 6.11 An error in the log is rebuilt from what is loaded.

    A log never causes an import, nor any other call.
    """

    @computation
    async def fails() -> Effectful[str]:
        try:
            yield Shop.pay(1)
        except Exception:  # noqa: BLE001 - a body that swallows all errors
            yield Fresh.uuid()
        yield Return("done")

    world = World(Declined("no funds"))
    log = completed(await start(fails(), *world.handlers)).log
    entry = log.entries[0]
    assert entry.error is not UNSET
    entry.error = type(entry.error)(kind, type_name, "x", entry.error.data)

    with pytest.raises(UndecodableError, match=problem):
        await replay(fails(), stored(log), *world.handlers)


async def test_an_error_of_the_system_keeps_its_file_name() -> None:
    """6.6 What an OSError says is the same on a replay, its file name included."""
    try:
        Path("/no/such/file").read_bytes()
    except OSError as error:
        first, again, kind = await both(error)
    assert kind == "builtin"
    assert str(first) == str(again) == "[Errno 2] No such file or directory: '/no/such/file'"
    assert cast("OSError", again).filename == "/no/such/file"


async def test_what_is_set_on_an_error_beside_its_args_is_not_seen() -> None:
    """6.6 The body sees on the first run what a replay sees; the original is the `__cause__`."""
    error = ValueError("no")
    error.code = 5  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
    first, again, _ = await both(error)
    assert (str(first), hasattr(first, "code"), first.__cause__) == ("no", False, error)
    assert (str(again), hasattr(again, "code")) == ("no", False)
