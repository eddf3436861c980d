"""What a store must be able to hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from skuld_async.durable.records import Closing, Folded, NewEvent, RunFilter, WaitFilter

from .samples import (
    AT,
    MANY,
    Handles,
    answer,
    claimed,
    deposit,
    found,
    new_run,
    owned,
    question,
    ready,
    suspended,
    whole,
    write,
    written,
)

if TYPE_CHECKING:
    from skuld_async.durable.store import Store

BYTES = {
    "all": bytes(range(256)),
    "nul": b"\0",
    "nul-inside": b"a\0b",
    "no-utf8": b"\xff\xfe\xc3(",
    "lines": b"\r\n\n\r",
    "megabyte": bytes(range(256)) * 4096,
}

TEXTS = {
    "quotes": "'\"`; DROP TABLE runs; --",
    "patterns": "%_\\*?[a]",
    "space": " \t\r\n ",
    "separators": "a/b,c|d:e{f}\x01\x1f\x7f\x85\u2028",
    "combining": "e\u0301",
    "composed": "\u00e9",
    "right-to-left": "\u202eabc\u05d0",
    "beyond-16-bits": "\U0001f600\U0010fffd",
    "no-character": "\ufffe\uffff\ufeff",
    "dots": "../..",
    "device": "CON",
    "long": "x" * 500,
    "long-and-wide": "\U0001f600" * 120,
}


class Payloads(Handles):
    """Payloads are any bytes; ids, names, tags and reasons are any text but NUL and lone surrogates."""

    @pytest.mark.parametrize("kind", BYTES)
    async def test_payloads_are_any_bytes(self, store: Store, other: Store, kind: str) -> None:
        """Logs, arguments, questions, answers, deposits, events, results and errors come back byte for byte."""
        data = BYTES[kind]
        await store.create(new_run(arguments=data, chunk=data), "w1")
        record = await found(other)
        asked = question(question=data, schema=data)
        told = NewEvent(1, AT, data)
        record = await written(store, write(record, chunk=data, opens=(asked,), events=(told,)))
        assert await store.answer(answer(body=data)) == "accepted"
        assert await store.answer(answer(body=data)) == "repeated"
        assert await store.answer(answer(body=data[1:])) == "conflict"
        await store.deposit(deposit(body=data))
        await store.append(write(record, chunk=data, status="failed", result=data, error=data, release=True))

        seen = await whole(other)
        assert seen.record is not None
        assert (seen.record.arguments, seen.record.result, seen.record.error) == (data, data, data)
        assert (seen.chunks, seen.events) == ([data, data, data], [told])
        assert [message.body for message in seen.unfolded] == [data, data]
        wait = seen.waits[0]
        assert wait is not None
        assert (wait.question, wait.schema, wait.answer) == (data, data, data)

    @pytest.mark.parametrize("kind", TEXTS)
    async def test_names_are_any_text(self, store: Store, other: Store, kind: str) -> None:
        """Ids, workflows, tags, names and people are any text, and are told apart by each character of it."""
        text, similar = TEXTS[kind], TEXTS[kind] + " "
        for one in (text, similar):
            run = new_run(one, workflow=one, version=one, tags=(one, "other"))
            record = await store.create(run, one)
            waits = (question(one, one, digest=one, sig=one, workflow=one, tags=(one,), name=one, assignee=one),)
            await store.append(write(record, opens=waits, status="suspended", release=True))
            assert await other.answer(answer(one, one, digest=one, by=one)) == "accepted"
            assert await store.deposit(deposit(one, wait=one, name=one, by=one)) == len("ab")
            [record] = await claimed(other, one, workflows=[one])
            assert await store.mail(one) in ([(one, 2)], ((one, 2),))
            item = write(record, folded=(Folded(1, one),), closes=(Closing(one, answered=True),))
            again = tuple(replace(wait, id=f"{one}again") for wait in waits)
            await store.append(replace(item, opens=again, status="needs_attention", attention=one, release=True))

        for one in (text, similar):
            assert [run.id for run in await other.runs(RunFilter(tag=one), None, MANY)] == [one]
            assert [run.id for run in await other.runs(RunFilter(workflow=one), None, MANY)] == [one]
            only = WaitFilter(run=one, workflow=one, tag=one, assignee=one, name=one)
            assert [wait.id for wait in await other.waits(only, None, MANY)] == [f"{one}again"]
            assert [fate for _, fate in await other.messages(one)] == [one, None]
            assert [message.by for message, _ in await other.messages(one)] == [one, one]
            assert await other.requeue_known(one, [one], AT + 9) == 1
            assert await store.delete(one) == "deleted"

    async def test_a_reason_is_any_text(self, store: Store) -> None:
        """The reason of a cancel comes back as UTF-8, however it is written."""
        for kind, text in TEXTS.items():
            await suspended(store, kind)
            assert await store.cancel(kind, text, text, AT + 4)

            [message] = (await store.load(kind))[1]
            assert (message.body, message.by) == (text.encode(), text)

    @pytest.mark.parametrize("at", [0.0, 1.1, 1_700_000_000.123456, 4_102_444_800.000001, -1.5])
    async def test_times_come_back_as_they_were(self, store: Store, at: float) -> None:
        """A time is a float, and not rounded: pages and filters compare it."""
        record = await owned(store, at=at)
        asked = question(opened=at, deadline=at)
        await store.append(write(record, at=at, status="suspended", release=True, wake=at, opens=(asked,)))
        record = await found(store)

        assert (record.created, record.updated, record.wake) == (at, at, at)
        assert await store.wait("run", "0/1") == asked
        assert await store.next_wake(["order"]) == at
        assert list(await store.runs(RunFilter(), (at, "run"), MANY)) == []
        assert list(await store.waits(WaitFilter(), (at, "run", "0/1"), MANY)) == []
        assert [one.id for one in await claimed(store, now=at)] == ["run"]

    async def test_a_long_log(self, store: Store) -> None:
        """A log of many chunks is given back whole, in the order in which it was written."""
        record = await owned(store)
        for number in range(100):
            await store.append(write(record, number=number + 2, chunk=b"%d" % number))

        assert list((await store.load("run"))[0]) == [b"first", *(b"%d" % number for number in range(100))]

    async def test_many_runs(self, store: Store) -> None:
        """A claim and a list of more runs than a database takes parameters at once are no trouble."""
        for number in range(40):
            await ready(store, f"run {number}")

        assert len(await claimed(store)) == len(await store.runs(RunFilter(), None, MANY))
        names = [f"workflow {number}" for number in range(2000)]
        assert (await store.next_wake(names), await claimed(store, workflows=names)) == (None, [])
