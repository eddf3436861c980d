"""Calls of a store's methods, made by chance, for the store and for its model."""

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec.structs import replace

from skuld_async.durable.errors import LeaseLostError, WaitTakenError
from skuld_async.durable.records import (
    Append,
    Closing,
    Folded,
    NewAnswer,
    NewDeposit,
    NewEvent,
    NewRun,
    RunFilter,
    RunStatus,
    WaitFilter,
    WaitRecord,
)
from skuld_async.durable.store import Store

from .model import ENDED, LOST, PARKED, Model, Plain


def brief(value: Any) -> str:
    """A value, without the fields that have their default."""
    if isinstance(value, msgspec.Struct):
        fields = msgspec.structs.fields(value)
        shown = [
            f"{one.name}={brief(getattr(value, one.name))}" for one in fields if getattr(value, one.name) != one.default
        ]
        return f"{type(value).__name__}({', '.join(shown)})"
    return repr(value)


RUNS = ("run", "Run", "é")
WORKERS = ("w1", "w2", "w3")
WORKFLOWS = ("order", "refund")
WAITS = ("0/1", "0/2")
TAGS = ("blue", "red")
BODIES = (b"1", b"2", b"", b"\0\xff")
REASONS = ("divergence", "unknown_workflow")
MANY = 1000


@dataclass(frozen=True)
class Call:
    """One call of a method, as a store is asked it, and as the model is; the model is told what the store said."""

    text: str
    on_store: Callable[[Store], Awaitable[Any]]
    on_model: Callable[[Model, Any], Any]


class Calls:
    """Makes calls by chance; most of them are such as a runtime would make, for what the model holds."""

    def __init__(self, model: Model, chance: random.Random, appended: dict[str, Append], *, at_once: bool) -> None:
        self.model = model
        self.chance = chance
        self.appended = appended
        """The last append to each run that was accepted."""
        self.at_once = at_once
        """Whether there are others at the same time."""

    def some(self, options: Sequence[Any], most: int = 9) -> tuple[Any, ...]:
        count = min(self.chance.randint(0, most), len(options))
        return tuple(self.chance.sample(options, count))

    @property
    def at(self) -> float:
        """Some time: clocks of several machines go neither together nor always forwards."""
        return self.chance.randint(0, 8) + 0.25

    @property
    def run(self) -> str:
        """A run, most often one that is there."""
        return self.chance.choice([*self.model.runs] * 3 + [*RUNS])

    def create(self) -> Call:
        chance = self.chance
        missing = [run for run in RUNS if run not in self.model.runs]
        run = NewRun(
            id=chance.choice(missing * 3 + [*RUNS]),
            workflow=chance.choice(WORKFLOWS),
            version=chance.choice([None, "1"]),
            arguments=b"{}",
            tags=self.some(TAGS),
            paused=chance.random() < 0.2,
            chunk=chance.choice(BODIES),
            at=self.at,
        )
        worker = chance.choice([None, *WORKERS])
        return Call(
            f"create({brief(run)}, {worker})", lambda s: s.create(run, worker), lambda m, _: m.create(run, worker)
        )

    def append(self) -> Call:
        is_owned = any(run["record"]["owner"] for run in self.model.runs.values())
        if not is_owned and self.chance.random() < 0.7:
            return self.claim()
        item = self._append()

        async def on_store(store: Store) -> object:
            try:
                await store.append(item)
            except LeaseLostError:
                return LOST
            except WaitTakenError as error:
                return error.wait
            return None

        def on_model(model: Model, answer: object) -> object:
            expected = model.append(item, answer)
            if expected is None:
                self.appended[item.run] = item
            return expected

        return Call(brief(item), on_store, on_model)

    def _append(self) -> Append:
        chance = self.chance
        owned = [run for run, kept in self.model.runs.items() if kept["record"]["owner"] is not None]
        run = chance.choice(owned or [self.run])
        if self.appended and chance.random() < 0.1:
            return chance.choice([*self.appended.values()])
        if run not in self.model.runs:
            return Append(run=run, worker="w1", token=1, number=2, at=self.at)
        record = self.model.runs[run]["record"]
        item = Append(
            run=run,
            worker=record["owner"] or "w1",
            token=record["token"],
            number=record["appends"] + 1,
            at=self.at,
            chunk=chance.choice([None, *BODIES]),
            progress=chance.random() < 0.5,
            seen=chance.randint(0, record["inbox"]),
            **self._standing(),
            **self._waits(run),
            **self._dealt_with(run),
        )
        item = replace(item, replace=item.chunk is not None and chance.random() < 0.3)
        wrong: list[Plain] = [
            {"worker": chance.choice(WORKERS)},
            {"token": chance.choice([0, record["token"] - 1, record["token"] + 1])},
            {"number": record["appends"] + chance.choice([0, 2])},
        ]
        return replace(item, **chance.choice(wrong)) if chance.random() < 0.15 else item

    def _standing(self) -> Plain:
        chance = self.chance
        goes_on: list[RunStatus | None] = [None, None, "running", "suspended", "suspended"]
        is_over = chance.random() < 0.2
        status = chance.choice([*ENDED, *PARKED[1:]] if is_over else goes_on)
        fields: Plain = {"status": status, "release": is_over or chance.random() < 0.4}
        if fields["release"] and not is_over:
            fields["wake"] = chance.choice([None, None, 0.0, self.at, self.at])
        if status == "completed":
            fields["result"] = chance.choice(BODIES)
        elif is_over:
            fields["error"] = chance.choice(BODIES)
            fields["attention"] = chance.choice(REASONS)
        return fields

    def _waits(self, run: str) -> Plain:
        chance = self.chance
        known = [*self.model.runs[run]["waits"], "0/9"]
        closes = tuple(Closing(wait, answered=chance.random() < 0.6) for wait in self.some(known, 1))
        free = [wait for wait in WAITS if wait not in {one.wait for one in closes}]
        opens = tuple(
            WaitRecord(
                run=run,
                id=wait,
                digest=chance.choice("ab"),
                sig="shop:Approve",
                question=chance.choice(BODIES),
                schema=b"{}",
                opened=self.at,
                workflow=chance.choice(WORKFLOWS),
                tags=self.some(TAGS),
                name=chance.choice([None, "n"]),
                assignee=chance.choice([None, "ann"]),
                deadline=chance.choice([None, self.at]),
            )
            for wait in self.some(free)
        )
        return {"closes": closes, "opens": opens}

    def _dealt_with(self, run: str) -> Plain:
        chance = self.chance
        unfolded = [message["number"] for message in self.model.load(run)[1]]
        told = self.model.runs[run]["record"]["events"]
        events = [NewEvent(told + number, self.at, chance.choice(BODIES)) for number in range(1, chance.randint(1, 3))]
        return {
            "folded": tuple(Folded(number, chance.choice(["", "late"])) for number in self.some(unfolded)),
            "events": tuple(events),
            "trim": chance.choice([0, 0, chance.randint(0, told + len(events))]),
            "forget": chance.choice([0.0, self.at - chance.randint(0, 3)]),
        }

    def claim(self) -> Call:
        chance = self.chance
        worker = chance.choice(WORKERS)
        dead = list(self.some([one for one in WORKERS if one != worker])) if chance.random() < 0.4 else []
        now, limit, unknown = chance.choice([self.at, 9.0, 9.0]), chance.choice([0, 1, 2, MANY, MANY]), False
        workflows = [*WORKFLOWS, "other"]
        if chance.random() < 0.3:
            workflows, unknown = list(self.some(WORKFLOWS)), chance.random() < 0.5
        options: Plain = {"now": now, "limit": limit, "workflows": workflows, "dead": dead, "unknown": unknown}
        return Call(
            f"claim({worker}, {options})",
            lambda s: s.claim(worker, **options),
            lambda m, answer: m.claim(
                worker, taken=[record["id"] for record in answer], at_once=self.at_once, **options
            ),
        )

    def requeue(self) -> Call:
        run, at = self.run, self.at
        return Call(f"requeue({run}, {at})", lambda s: s.requeue(run, at), lambda m, _: m.requeue(run, at))

    def requeue_known(self) -> Call:
        options = (self.chance.choice(REASONS), list(self.some(WORKFLOWS)), self.at)
        return Call(
            f"requeue_known{options}",
            lambda s: s.requeue_known(*options),
            lambda m, _: m.requeue_known(*options),
        )

    def delete(self) -> Call:
        run = self.run
        return Call(f"delete({run})", lambda s: s.delete(run), lambda m, _: m.delete(run))

    def expire(self) -> Call:
        at = self.at
        return Call(f"expire({at})", lambda s: s.expire(at, MANY), lambda m, _: m.expire(at))

    def answer(self) -> Call:
        chance = self.chance
        waits = [wait for run in self.model.runs.values() for wait in run["waits"].values()]
        waits += [wait for wait in waits if wait["state"] == "open"] * 4
        known = chance.choice(waits) if waits and chance.random() < 0.9 else None
        item = NewAnswer(
            run=self.run if known is None else known["run"],
            wait=chance.choice(WAITS) if known is None else known["id"],
            digest="a" if known is None or chance.random() < 0.1 else known["digest"],
            body=chance.choice(BODIES),
            by=chance.choice(["ann", "bob"]),
            at=self.at,
        )
        return Call(brief(item), lambda s: s.answer(item), lambda m, _: m.answer(item))

    def deposit(self) -> Call:
        chance = self.chance
        wait, name = chance.choice([("0/1", ""), ("", "n")])
        item = NewDeposit(self.run, wait, name, chance.choice(BODIES), "bot", self.at)
        return Call(brief(item), lambda s: s.deposit(item), lambda m, _: m.deposit(item))

    def cancel(self) -> Call:
        options = (self.run, self.chance.choice(["enough", ""]), "ann", self.at)
        return Call(f"cancel{options}", lambda s: s.cancel(*options), lambda m, _: m.cancel(*options))

    def list_runs(self) -> Call:
        chance = self.chance
        statuses: list[tuple[RunStatus, ...] | None] = [None, ("running", "suspended"), ("completed", "failed")]
        only = RunFilter(
            workflow=chance.choice([None, "order"]),
            statuses=chance.choice(statuses),
            tag=chance.choice([None, "red"]),
        )
        after, limit = chance.choice([None, (self.at, chance.choice(RUNS))]), chance.choice([1, 2, MANY])
        return Call(
            f"runs({brief(only)}, {after}, {limit})",
            lambda s: s.runs(only, after, limit),
            lambda m, _: m.list_runs(only, after, limit),
        )

    def list_waits(self) -> Call:
        chance = self.chance
        only = WaitFilter(
            run=chance.choice([None, None, *RUNS]),
            workflow=chance.choice([None, "order"]),
            tag=chance.choice([None, "red"]),
            assignee=chance.choice([None, "ann"]),
            name=chance.choice([None, "n"]),
            opened_before=chance.choice([None, self.at]),
        )
        after = chance.choice([None, (self.at, chance.choice(RUNS), chance.choice(WAITS))])
        limit = chance.choice([1, 2, MANY])
        return Call(
            f"waits({brief(only)}, {after}, {limit})",
            lambda s: s.waits(only, after, limit),
            lambda m, _: m.list_waits(only, after, limit),
        )

    def bury(self) -> Call:
        workers = list(self.some(WORKERS))
        return Call(f"bury({workers})", lambda s: s.bury(workers), lambda m, _: m.bury(workers))
