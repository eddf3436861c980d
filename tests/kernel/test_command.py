"""Command: plain data, executed by a handler that is found by its type, without a log and out of one."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Generic

import msgspec
import pytest
from msgspec import Struct
from typing_extensions import TypeVar

from skuld_async import (
    Command,
    Completed,
    DeclarationError,
    DivergenceError,
    Effectful,
    Failed,
    Log,
    NotAnEffectError,
    Outcome,
    ResultError,
    Return,
    State,
    Suspended,
    UnhandledEffectError,
    Yield,
    computation,
    current_call,
    replay,
    rerun,
    resume,
    run,
    start,
)
from skuld_async.testing import Script, always_cold

from .parts import Charge

T = TypeVar("T")


class Tracking(Struct, frozen=True):
    code: str


class Ship(Command[Tracking], frozen=True, tag=True):
    order: int


class Express(Ship, frozen=True, tag=True):
    hours: int = 24


class Cancel(Command[None], frozen=True, tag=True):
    order: int
    why: str = ""


class Declined(Exception):
    pass


class Pay(Command[str], frozen=True):
    __sig__ = "bank.pay"
    __aliases__: ClassVar[tuple[str, ...]] = ("old.module:Pay",)
    __raises__: ClassVar[tuple[type[Exception], ...]] = (Declined,)
    amount: Decimal


class Ask(Yield[str], frozen=True):
    pass


shipped = State("shipped", int)


def ship(command: Ship) -> Tracking:
    return Tracking(f"{type(command).__name__} {command.order}")


async def ship_later(command: Ship) -> Tracking:
    return ship(command)


@computation
async def ship_by_effects(command: Ship) -> Effectful[Tracking]:
    yield shipped.modify(lambda count: count + 1)
    receipt = yield Pay(Decimal(command.order)).execute()
    yield Return(Tracking(f"{type(command).__name__} {command.order} {receipt}"))


@computation
async def executes(commands: list[Ship | Express | Cancel]) -> Effectful[list[Any]]:
    answers: list[Any] = []
    for command in commands:
        answer = yield command.execute()
        answers.append(answer)
    yield Return(answers)


def stored(outcome: Outcome[Any]) -> Log:
    return Log.from_msgpack(Log.from_json(outcome.log.to_json()).to_msgpack())


# -- data --------------------------------------------------------------------------------------------------------------


def test_commands_are_plain_data() -> None:
    """A command is a frozen struct, equal by its fields, that a union is decoded from; it is no effect."""
    decoded = msgspec.json.decode(b'[{"type":"Ship","order":1},{"type":"Cancel","order":2}]', type=list[Ship | Cancel])

    assert decoded == [Ship(1), Cancel(2)]
    assert len({Ship(1), Ship(1), Ship(2)}) == 2
    assert msgspec.json.encode(Express(3)) == b'{"type":"Express","order":3,"hours":24}'
    with pytest.raises(AttributeError):
        Ship(1).order = 2  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_type_of_its_answer_is_compiled_where_it_is_declared() -> None:
    """6.11 An ambiguous union is refused at the class, through generic bases too."""

    class Get(Command[list[T]], Generic[T], frozen=True):
        key: str

    class GetNumbers(Get[int], frozen=True):
        pass

    class Box(Struct, frozen=True):
        text: str

    assert GetNumbers("a").execute().__answer__.type == list[int]
    assert Express(1).execute().__answer__.type is Tracking
    with pytest.raises(DeclarationError, match=r"Open: JSON cannot tell the members"):

        class Open(Command[Tracking | Box], frozen=True):  # pyright: ignore[reportUnusedClass]
            pass

    with pytest.raises(DeclarationError, match=r"GetErrors: ValueError is an exception"):

        class GetErrors(Get[ValueError], frozen=True):  # pyright: ignore[reportUnusedClass]
            pass


async def test_yielding_a_command_itself_is_a_misuse() -> None:
    """5.6 A forgotten `.execute()` is an error at that line, with the fix."""

    @computation
    async def body() -> Effectful[None]:
        yield Ship(42)  # type: ignore[misc]  # pyright: ignore[reportReturnType]

    with pytest.raises(NotAnEffectError, match=r"write `yield command\.execute\(\)`") as caught:
        await run(body(), Ship.handled_by(ship))
    assert "Ship(order=42)" in caught.value.received


# -- handlers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", [ship, ship_later, ship_by_effects], ids=["sync", "async", "computation"])
async def test_it_is_executed_by_a_function_of_the_command(handler: Any) -> None:
    """`handled_by` takes a function of the command: sync, async, or a computation; subclasses are commands too."""
    scope = [shipped.handler(0), Pay.always("paid"), Ship.handled_by(handler), Cancel.always(None)]

    first, express, none = await run(executes([Ship(1), Express(2), Cancel(3)]), *scope)

    assert first.code.startswith("Ship 1")
    assert express.code.startswith("Express 2")
    assert none is None


async def test_execute_works_on_the_class_too() -> None:
    """`Command.execute(command)` is `command.execute()`, by `yield` and by `await`."""

    @computation
    async def body() -> Effectful[list[Tracking]]:
        yield Return([(yield Command.execute(Ship(1))), await Ship.execute(Ship(2)), await Ship(3).execute()])

    assert await run(body(), Ship.handled_by(ship)) == [Tracking("Ship 1"), Tracking("Ship 2"), Tracking("Ship 3")]


async def test_the_nearest_class_answers() -> None:
    """`Command.handled_by` takes all for which there is no other in its scope; an inner scope comes first."""

    async def dispatch(command: Command[Any]) -> Any:
        return f"dispatched {type(command).__name__}"

    commands: list[Ship | Express | Cancel] = [Ship(1), Express(2), Cancel(3)]
    all_, own, inner = (
        await run(executes(commands), Command.handled_by(dispatch)),
        await run(executes(commands), Ship.handled_by(ship), Command.handled_by(dispatch)),
        await run(executes(commands).handle(Command.handled_by(dispatch)), Ship.handled_by(ship)),
    )

    assert all_ == inner == ["dispatched Ship", "dispatched Express", "dispatched Cancel"]
    assert own == [Tracking("Ship 1"), Tracking("Express 2"), "dispatched Cancel"]


async def test_a_command_may_have_several_bases() -> None:
    """A handler of each base answers it, the nearest first."""

    class Dangerous(Command[T], Generic[T], frozen=True):
        pass

    class Audited(Command[T], Generic[T], frozen=True):
        pass

    class Wipe(Dangerous[str], Audited[str], frozen=True):
        disk: int

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield Wipe(1).execute()))

    dangerous, audited = Dangerous[Any].handled_by(lambda _: "asked"), Audited[Any].handled_by(lambda _: "noted")
    assert await run(body(), audited) == "noted"
    assert await run(body(), audited, dangerous) == "asked"


async def test_a_command_without_a_handler_is_an_error_that_shows_the_fix() -> None:
    """5.6 What nothing handles is named as the user wrote it."""
    with pytest.raises(UnhandledEffectError, match=r"nothing handles Ship .*") as caught:
        await run(executes([Ship(1)]), Cancel.always(None))

    assert "(handlers in scope: Cancel)" in str(caught.value)
    assert "Ship.handled_by(function)" in str(caught.value)


async def test_a_script_names_what_it_expects() -> None:
    """A script answers commands as it answers effects."""
    script = Script([(Ship(1).execute(), Tracking("a")), (Cancel(2).execute(), None)])

    assert await run(executes([Ship(1), Cancel(2)]), script) == [Tracking("a"), None]
    script.done()


# -- under a log -------------------------------------------------------------------------------------------------------


async def test_it_is_external() -> None:
    """6.3 A replay gives the logged answer and executes nothing; the call has a key."""
    keys: list[str] = []

    def ship_once(command: Ship) -> Tracking:
        keys.append(current_call().key)
        return ship(command)

    @computation
    async def body(command: Ship | Cancel) -> Effectful[Tracking]:
        tracking = yield command.execute()
        yield Ask()
        yield Return(tracking)

    first = await start(body(Ship(42)), Ship.handled_by(ship_once), id="run")
    last = await resume(body(Ship(42)), stored(first), Ship.handled_by(ship_once), answer="go")

    assert isinstance(last, Completed)
    assert last.value == Tracking("Ship 42")
    assert keys == ["run/0/1"]
    entry = first.log.entries[0]
    assert entry.sig == f"{__name__}:Ship"
    assert bytes(entry.data) == b'{"command":{"type":"Ship","order":42}}'


async def test_another_command_is_a_divergence() -> None:
    """6.4 A replay compares class and fields; a field with a default that was added still matches."""
    log = stored(await start(executes([Cancel(1)]), Cancel.always(None)))
    entry = log.entries[0]

    entry.data = msgspec.Raw(b'{"command":{"type":"Cancel","order":1}}')
    assert (await replay(executes([Cancel(1)]), log, Cancel.always(None))).value == [None]
    entry.data = msgspec.Raw(b'{"command":{"type":"Cancel","order":2}}')
    with pytest.raises(DivergenceError, match=r"command\.order"):
        await replay(executes([Cancel(1)]), log, Cancel.always(None))


async def test_names_and_aliases_are_stable() -> None:
    """6.13 `__sig__` is the name in logs, and `__aliases__` those that old logs hold."""

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield Pay(Decimal(1)).execute()))

    log = stored(await start(body(), Pay.always("paid")))
    assert log.entries[0].sig == "bank.pay"

    log.entries[0].sig = "old.module:Pay"
    assert (await replay(body(), log, Pay.always("never"))).value == "paid"
    log.entries[0].sig = "other:Pay"
    with pytest.raises(DivergenceError):
        await replay(body(), log, Pay.always("never"))


async def test_errors_that_it_declares_arrive_as_themselves() -> None:
    """6.6, 6.7 `__raises__` are answers: they arrive as themselves, and `rerun` executes it under a new key."""
    keys: list[str] = []

    async def pay(_command: Pay) -> str:
        keys.append(current_call().key)
        if len(keys) == 1:
            raise Declined("too much")
        return "paid"

    @computation
    async def body() -> Effectful[str]:
        yield Return((yield Pay(Decimal(1)).execute()))

    failed = await start(body(), Pay.handled_by(pay), id="run")
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, Declined)
    assert (await rerun(body(), stored(failed), Pay.handled_by(pay))).value == "paid"
    assert keys == ["run/0/1", "run/0/1~1"]


async def test_an_answer_of_another_type_is_refused() -> None:
    """6.11 The answer is admitted as the class declares it; an untyped dispatcher can give no other."""

    async def dispatch(_command: Command[Any]) -> Any:
        return "a string"

    outcome = await start(executes([Ship(1)]), Command.handled_by(dispatch))
    assert isinstance(outcome, Failed)
    assert isinstance(outcome.error, ResultError)


async def test_a_computation_that_executes_is_logged_under_the_command() -> None:
    """5.9 What the handler requests stands under the id of the command; its state is there after a cold resume."""

    @computation
    async def body() -> Effectful[int]:
        yield Ship(1).execute()
        yield Ask()
        yield Return((yield shipped.get()))

    scope = [shipped.handler(0), Pay.always("paid"), Ship.handled_by(ship_by_effects)]
    first = await start(body(), *scope)

    assert isinstance(first, Suspended)
    assert [(entry.id, entry.sig.rpartition(":")[2]) for entry in first.log.entries] == [
        ("0/1", "Ship"),
        ("0/1/2", "State[shipped].modify"),  # the computation itself is 0/1/1
        ("0/1/3", "bank.pay"),
        ("0/2", "Ask"),
    ]
    assert (await resume(body(), stored(first), *scope, answer="go")).value == 1


@dataclass
class Warehouse:
    """Executes commands by methods; what it asks suspends the run."""

    name: str

    @computation
    async def ship(self, command: Ship) -> Effectful[Tracking]:
        yield Charge(command.order)
        answer = yield Ask()
        yield shipped.modify(lambda count: count + 1)
        yield Return(Tracking(f"{self.name} {answer}"))


async def test_a_handler_may_suspend_in_the_middle() -> None:
    """5.9, 7.1 A question in a computation that executes a command: the command stays started until it is answered."""
    charged: list[int] = []

    def charge(effect: Charge) -> str:
        charged.append(effect.cents)
        return "charged"

    scope = [shipped.handler(0), Charge.handled_by(charge), Ship.handled_by(Warehouse("north").ship)]
    first = await start(executes([Ship(7)]), *scope)

    assert [(entry.id, entry.state) for entry in first.log.entries] == [
        ("0/1", "started"),
        ("0/1/2", "executed"),
        ("0/1/3", "started"),
    ]
    last: Outcome[Any] = await resume(executes([Ship(7)]), stored(first), *scope, answer="yes")
    assert last.value == [{"code": "north yes"}]  # Effectful[list[Any]]
    assert last.state(shipped) == 1
    assert charged == [7]
    assert (await replay(executes([Ship(7)]), stored(last), *scope)).state(shipped) == 1


async def test_it_is_always_cold() -> None:
    """6.9 Suspended and resumed at every effect, it comes to the same."""
    scope = [
        shipped.handler(0),
        Pay.always("paid"),
        Charge.always("charged"),
        Ship.handled_by(ship_by_effects),
        Express.handled_by(Warehouse("south").ship),
        Cancel.always(None),
    ]

    outcome = await always_cold(executes([Ship(1), Express(2), Cancel(3)]), *scope, answer=lambda _: "go")

    assert outcome.state(shipped) == 2
