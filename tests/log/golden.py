"""The workflows whose logs are kept in ``tests/logs``. They must replay for ever.

Add to this file, change nothing in it.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, Literal, Protocol

from msgspec import Struct

from skuld_async import (
    AtomicState,
    Channel,
    Clock,
    Command,
    Computation,
    DomainError,
    Effectful,
    EventAccumulator,
    Fresh,
    Handler,
    Log,
    Parallel,
    Port,
    Random,
    Reader,
    Return,
    RolledBackError,
    State,
    Suspended,
    Throw,
    Transaction,
    Writer,
    Yield,
    bracket,
    computation,
    fork,
    join,
    mark_loop,
    open_session,
    operation,
    rerun,
    resume,
    rollback,
    start,
    transact,
    with_timeout,
)
from skuld_async.testing import VirtualClock


class Line(Struct, frozen=True):
    item: str
    cents: int = 0


class Shipped(Struct, frozen=True, tag="shipped"):
    number: int


class Returned(Struct, frozen=True, tag="returned"):
    number: int
    why: str | None = None


class Unavailable(DomainError):
    item: str


class Refusal(Exception):
    """Declared by `Depot.pay`."""


class Review(Yield[Literal["accept", "reject"]], frozen=True):
    __sig__ = "golden.Review"
    lines: list[Line]


class Say(Yield[str], frozen=True):
    __sig__ = "golden.Say"


class Depot(Port, Protocol):
    @operation(sig="golden.Depot.fetch")
    async def fetch(self, item: str, count: int = 1) -> Line: ...

    @operation(sig="golden.Depot.pay", raises=(Refusal,))
    async def pay(self, cents: int) -> str: ...

    @operation(sig="golden.Depot.audit")
    async def audit(self, note: str) -> None: ...


stock = State("golden.stock", dict[str, int])
tariff = Reader("golden.tariff", int)
parcels = EventAccumulator("golden.parcels", Shipped | Returned)


@computation(name="golden.helper")
async def fetch_all(items: list[str]) -> Effectful[list[Line]]:
    lines: list[Line] = []
    for item in items:
        try:
            lines.append((yield Depot.fetch(item, count=2)))
        except (Unavailable, TimeoutError, ExceptionGroup):
            yield parcels.emit(Returned(len(lines), "not there"))
    yield Return(lines)


@computation(name="golden.order", version="1")
async def order(items: list[str], note: str | None = None) -> Effectful[str]:
    rate = yield tariff.ask()
    lines = yield fetch_all(items).handle(stock.handler({"inner": 1}))
    yield stock.put({line.item: line.cents for line in lines})
    at = yield Clock.now()
    number = yield Fresh.uuid()
    decision = yield Review(lines).named("review")
    if decision == "reject":
        yield Throw(ValueError(f"rejected: {note}"))
    paid = yield Depot.pay(sum(line.cents for line in lines) * rate)
    yield parcels.emit(Shipped(len(lines)))
    yield Return(f"{paid} {at.year} {str(number)[:8]}")


@computation(name="golden.talk")
async def talk() -> Effectful[str]:
    yield stock.put({})
    said: list[str] = []
    while len(said) < 3:
        said = yield mark_loop("talk", list[str], carry=said)
        said = [*said, (yield Say())]
        yield stock.modify(lambda held: held | {str(len(held)): 1})
        yield Depot.audit(said[-1])
    yield Return(",".join(said))


@computation(name="golden.changed")
async def before_the_change() -> Effectful[str]:
    yield Depot.audit("one")
    yield Depot.audit("two")
    yield Return((yield Say()))


@computation(name="golden.changed")
async def after_the_change() -> Effectful[str]:
    yield Depot.audit("two")
    yield Depot.audit("three")
    yield Return((yield Say()))


notes = Writer("golden.notes", str)


class Pack(Command[str], frozen=True):
    __sig__ = "golden.Pack"
    item: str


@computation(name="golden.packed")
async def packed(item: str, *, fails: bool = False) -> Effectful[str]:
    yield stock.modify(lambda held: {**held, item: 1})
    yield parcels.emit(Shipped(1))
    box = yield Pack(item).execute()
    if fails:
        yield rollback("no more")
    yield Return(box)


@computation(name="golden.noted")
async def noted(items: list[str]) -> Effectful[list[str]]:
    first = yield Random.choice(items)
    yield notes.tell(f"first {first}")
    order = yield Random.shuffle(items)
    said = yield Say()
    yield notes.tell(said)
    yield Return([first, *order])


@computation(name="golden.moves")
async def moves(items: list[str]) -> Effectful[str]:
    order, told = yield notes.listen(noted(items))
    box = yield transact(packed(order[0]))
    reason = ""
    try:
        yield transact(packed(order[1], fails=True))
    except RolledBackError as error:
        reason = error.reason
    yield notes.censor(noted(items), lambda known: [reason for _ in known])
    held = yield stock.get()
    yield Return(f"{box} {len(told)} {sorted(held)}")


counter = AtomicState("golden.counter", int)
boxes = Channel("golden.boxes", str, capacity=1)


@computation(name="golden.crowd.packing")
async def packing(items: list[str]) -> Effectful[int]:
    for item in items:
        yield boxes.send((yield Pack(item).execute()))
    yield boxes.close()
    yield Return(len(items))


@computation(name="golden.crowd.counting")
async def counting(item: str) -> Effectful[Line]:
    yield counter.modify(lambda n: n + 1)
    yield notes.tell(f"count {item}")
    yield Return((yield Depot.fetch(item)))


@computation(name="golden.crowd.asking")
async def asking(word: str) -> Effectful[str]:
    yield stock.put({word: 1})
    said = yield bracket(Depot.audit(word), lambda _: answered(), lambda _: Depot.audit(f"done {word}"))
    yield Return(said)


@computation(name="golden.crowd.answered")
async def answered() -> Effectful[str]:
    yield Return((yield Say()))


@computation(name="golden.crowd")
async def crowd(items: list[str]) -> Effectful[list[str]]:
    packed_all = yield fork(packing(items))
    first = yield boxes.receive()
    second = yield boxes.receive()
    lines = yield Parallel.map(counting, items, limit=2)
    errors = yield Parallel.all(counting("slow"), counting("pen"), settle=True)
    lost = ""
    try:
        yield Parallel.all(asking("never"), counting("ghost"))
    except Unavailable as error:
        lost = error.item
    late = yield with_timeout(Say(), timedelta(days=1))
    won = yield Parallel.race(say=asking("one"), review=Review([]).within(timedelta(days=2)))
    yield Clock.sleep(timedelta(hours=1))
    count = yield join(packed_all)
    yield Return(
        [first, second, *(line.item for line in lines), type(errors[0]).__name__, lost, str(late), won.name, str(count)]
    )


class Warehouse:
    """The outside, when the logs were written: it does not always work."""

    def __init__(self, *, pays: bool = True) -> None:
        self.pays = pays

    async def fetch(self, item: str, count: int = 1) -> Line:
        if item == "ghost":
            raise Unavailable(item)
        if item == "slow":
            raise TimeoutError(item)
        if item == "broken":
            raise ExceptionGroup(item, [Unavailable(item), RuntimeError("odd")])
        return Line(item, 100 * count)

    async def pay(self, cents: int) -> str:
        if not self.pays:
            raise Refusal("no funds", cents)
        return f"paid {cents}"

    async def audit(self, note: str) -> None:
        """Nothing to say."""


class Closed:
    """The outside of a replay: nobody is there."""

    async def fetch(self, item: str, count: int = 1) -> Line:
        raise AssertionError(item)

    async def pay(self, cents: int) -> str:
        raise AssertionError(cents)

    async def audit(self, note: str) -> None:
        raise AssertionError(note)


def handlers(depot: object, clock: VirtualClock | None = None) -> Sequence[Handler]:
    """The outermost scope of each workflow."""
    return [
        Depot.handler(depot),
        stock.handler({}),
        tariff.handler(3),
        parcels.handler(),
        (clock or VirtualClock()).handler(),
        notes.handler(),
        Pack.handled_by(lambda command: f"box of {command.item}"),
        Transaction.in_memory(),
        counter.handler(0),
        boxes.handler(),
    ]


ITEMS = ["book", "ghost", "pen", "slow", "broken"]

COMPUTATIONS: dict[str, Computation[Any]] = {
    "order-suspended": order(ITEMS, "gift"),
    "order-completed": order(ITEMS, "gift"),
    "order-failed": order(ITEMS, "gift"),
    "order-cancelled": order(ITEMS, "gift"),
    "order-refused": order(["book"]),
    "order-rerun": order(["book"]),
    "talk-pruned": talk(),
    "talk-whole": talk(),
    "changed": after_the_change(),
    "moves-suspended": moves(["pen", "cup", "hat"]),
    "moves-completed": moves(["pen", "cup", "hat"]),
    "crowd-timing": crowd(["pen", "cup"]),
    "crowd-suspended": crowd(["pen", "cup"]),
    "crowd-completed": crowd(["pen", "cup"]),
    "crowd-cancelled": crowd(["pen", "cup"]),
    "crowd-pruned": crowd(["pen", "cup"]),
}


async def written() -> dict[str, Log]:
    """The logs, as today's code writes them."""
    scope = handlers(Warehouse())
    logs: dict[str, Log] = {}
    comp = COMPUTATIONS["order-suspended"]
    waits = (await start(comp, *scope, id="golden-1", seed="golden")).log
    logs["order-suspended"] = waits
    logs["order-completed"] = (await resume(comp, waits, *scope, answer="accept")).log
    logs["order-failed"] = (await resume(comp, waits, *scope, answer="reject")).log
    async with open_session(comp, *scope, log=waits) as session:
        await session.outcome()
        logs["order-cancelled"] = (await session.cancel("not wanted")).log
    poor = handlers(Warehouse(pays=False))
    comp = COMPUTATIONS["order-refused"]
    log = (await start(comp, *poor, id="golden-2", seed="golden")).log
    logs["order-refused"] = (await resume(comp, log, *poor, answer="accept")).log
    logs["order-rerun"] = (await rerun(comp, logs["order-refused"], *scope)).log
    for name, prune in (("talk-pruned", True), ("talk-whole", False)):
        options: Any = {"prune_loops": prune}
        log = (await start(talk(), *scope, id="golden-3", seed="golden", **options)).log
        for word in ("one", "two"):
            log = (await resume(talk(), log, *scope, answer=word, **options)).log
        logs[name] = log
    log = (await start(before_the_change(), *scope, id="golden-4", seed="golden")).log
    logs["changed"] = (await resume(after_the_change(), log, *scope, allow_divergence=True)).log
    comp = COMPUTATIONS["moves-suspended"]
    log = (await start(comp, *scope, id="golden-5", seed="golden")).log
    logs["moves-suspended"] = log = (await resume(comp, log, *scope, answer="one")).log
    logs["moves-completed"] = (await resume(comp, log, *scope, answer="two")).log
    comp = COMPUTATIONS["crowd-timing"]
    for prune in (False, True):
        pruned: Any = {"prune_branches": prune}
        clock = VirtualClock()
        scope = handlers(Warehouse(), clock)
        timing = await start(comp, *scope, id="golden-6", seed="golden", **pruned)
        clock.advance(timedelta(days=1))
        two = await resume(comp, timing.log, *scope, **pruned)
        assert isinstance(two, Suspended)
        sleeping = await resume(comp, two.log, *scope, answers={two.waits[0].ref: "yes"}, **pruned)
        clock.advance(timedelta(hours=1))
        ended = (await resume(comp, sleeping.log, *scope, **pruned)).log
        if prune:
            logs["crowd-pruned"] = ended
        else:
            logs |= {"crowd-timing": timing.log, "crowd-suspended": two.log, "crowd-completed": ended}
            async with open_session(comp, *scope, log=two.log) as session:
                await session.outcome()
                logs["crowd-cancelled"] = (await session.cancel("too many")).log
    return logs
