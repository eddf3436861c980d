"""What everybody may send to a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio
import pytest
from msgspec.structs import replace

from skuld_async.durable.records import ENDED, Closing, Folded, Message, RunStatus

from .samples import (
    AT,
    Handles,
    answer,
    claimed,
    deposit,
    found,
    new_run,
    owned,
    question,
    settled,
    suspended,
    whole,
    write,
    written,
)

if TYPE_CHECKING:
    from skuld_async.durable.records import NewAnswer
    from skuld_async.durable.store import Store

ANSWER = Message(number=1, kind="answer", wait="0/1", name="", body=b'"yes"', by="ann", at=AT + 2)
DEPOSIT = Message(number=1, kind="deposit", wait="", name="approval", body=b'"maybe"', by="bot", at=AT + 3)
CANCEL = Message(number=1, kind="cancel", wait="", name="", body=b"enough", by="ann", at=AT + 4)


class Messaging(Handles):
    """`Store.answer`, `Store.deposit`, `Store.cancel`, `Store.messages`, `Store.mail`."""

    async def test_an_answer_is_kept_and_sent(self, store: Store, other: Store) -> None:
        """It stands at its question, is a message to the run, and lets the next free worker take it."""
        record = await suspended(store, opens=(question(),), wake=AT + 99)

        assert await other.answer(answer()) == "accepted"
        seen = await whole(store)
        assert seen.record == replace(record, inbox=1, wake=0.0, status="running", updated=AT + 2)
        assert (seen.unfolded, seen.messages, seen.open) == ([ANSWER], [(ANSWER, None)], [])
        answered = question(state="answered", answer=b'"yes"', answered_by="ann", answered=AT + 2)
        assert seen.waits[0] == answered
        assert [one.id for one in await claimed(store)] == ["run"]

    @pytest.mark.parametrize("is_closed", [False, True])
    async def test_a_second_answer_changes_nothing(self, store: Store, *, is_closed: bool) -> None:
        """The same one once more is repeated, another one a conflict, also when its run has seen the first."""
        record = await written(store, write(await owned(store), opens=(question(),)))
        await store.answer(answer())
        if is_closed:
            await store.append(write(record, closes=(Closing("0/1", answered=True),), folded=(Folded(1),), seen=1))
        before = await whole(store)

        assert await store.answer(answer()) == "repeated"
        assert await store.answer(answer(by="bob", at=AT + 9)) == "repeated"
        assert await store.answer(answer(body=b'"no"')) == "conflict"
        assert await whole(store) == before

    async def test_what_cannot_be_answered(self, store: Store) -> None:
        """No such run, no such question, or one in other words: it is unknown, and nothing changes."""
        await suspended(store, opens=(question(), question(id="0/2")))
        await store.answer(answer(wait="0/2"))
        before = await whole(store)
        items = [answer("another"), answer(wait="0/3"), answer(digest="other"), answer(wait="0/2", digest="other")]

        assert [await store.answer(item) for item in items] == ["unknown"] * 4
        assert await whole(store) == before

    async def test_of_many_answers_one_is_taken(self, store: Store, other: Store) -> None:
        """Of several answers at once, one is taken, the same one is repeated, each other is a conflict."""
        await suspended(store, opens=(question(),))
        given: list[tuple[bytes, str]] = []

        async def give(handle: Store, item: NewAnswer) -> None:
            given.append((item.body, await handle.answer(item)))

        async with anyio.create_task_group() as group:
            for number in range(8):
                group.start_soon(give, (store, other)[number % 2], answer(body=b"%d" % (number // 2)))
        [taken] = [body for body, outcome in given if outcome == "accepted"]

        assert sorted(outcome for body, outcome in given if body == taken) == ["accepted", "repeated"]
        assert [outcome for body, outcome in given if body != taken] == ["conflict"] * 6
        assert [message.body for message, _ in await store.messages("run")] == [taken]

    async def test_a_deposit_is_sent_and_closes_nothing(self, store: Store) -> None:
        """For a question, or for a name that is still to be asked: it is a message, and the question stays open."""
        record = await suspended(store, opens=(question(),), wake=AT + 99)

        assert await store.deposit(deposit()) == 1
        assert await store.deposit(deposit(wait="0/1", name="")) == len([DEPOSIT, DEPOSIT])
        seen = await whole(store)
        assert seen.unfolded == [DEPOSIT, replace(DEPOSIT, number=2, wait="0/1", name="")]
        after = replace(record, inbox=2, wake=0.0, status="running", updated=AT + 3)
        assert (seen.open, seen.record) == ([question()], after)

    async def test_the_same_deposit_twice_is_one(self, store: Store, other: Store) -> None:
        """A deposit that comes again in all its fields is the first one; a later one of the same words is another."""
        await suspended(store)
        items = [deposit(), deposit(), deposit(at=AT + 9), deposit(body=b"2"), deposit(by="ann"), deposit(wait="0/1")]

        assert [await store.deposit(item) for item in items] == [1, 1, 2, 3, 4, 5]
        assert [await other.deposit(item) for item in items] == [1, 1, 2, 3, 4, 5]
        assert (await found(store)).inbox == len(set(items))

    @pytest.mark.parametrize("status", ENDED)
    async def test_nothing_is_sent_to_what_has_ended(self, store: Store, status: RunStatus) -> None:
        """A run that has ended takes no deposit and no cancel, nor does one that is not there."""
        await settled(store, status)
        before = await whole(store)

        assert [await store.deposit(deposit()), await store.deposit(deposit("another"))] == [None, None]
        assert [await store.cancel(run, "enough", "ann", AT + 4) for run in ("run", "another")] == [False, False]
        assert await whole(store) == before
        assert (await whole(store, "another")).messages == []

    async def test_a_cancel_is_sent_once(self, store: Store, other: Store) -> None:
        """It is a message, and lets the next free worker take the run; to ask again changes nothing."""
        record = await suspended(store)
        assert await store.cancel("run", "enough", "ann", AT + 4)

        seen = await whole(store)
        after = replace(record, inbox=1, wake=0.0, status="running", updated=AT + 4)
        assert (seen.unfolded, seen.record) == ([CANCEL], after)
        assert [await store.cancel("run", "enough", "ann", AT + 4), await other.cancel("run", "", "", AT + 9)] == [
            True,
            True,
        ]
        assert await whole(store) == seen

    async def test_a_cancel_that_its_owner_has_seen(self, store: Store) -> None:
        """To ask again while the run cleans up changes nothing either."""
        record = await owned(store)
        await store.cancel("run", "enough", "ann", AT + 4)
        await store.append(write(record, folded=(Folded(1),)))
        before = await whole(store)

        assert await store.cancel("run", "again", "bob", AT + 5)
        assert await whole(store) == before

    async def test_messages_to_a_run_that_somebody_has(self, store: Store) -> None:
        """They are kept for its owner, who still has it, and nobody takes it for them."""
        record = await written(store, write(await owned(store), opens=(question(),)))
        await store.answer(answer())
        await store.deposit(deposit())
        await store.cancel("run", "enough", "ann", AT + 4)

        assert await found(store) == replace(record, inbox=3)
        unfolded = (await whole(store)).unfolded
        assert unfolded == [ANSWER, replace(DEPOSIT, number=2), replace(CANCEL, number=3)]
        assert await claimed(store) == []

    @pytest.mark.parametrize("kind", ["answer", "deposit", "cancel"])
    async def test_a_message_to_a_suspended_run_that_somebody_has(self, store: Store, kind: str) -> None:
        """It makes the run running, since then, and leaves it to its owner."""
        record = await written(store, write(await owned(store), opens=(question(),), status="suspended"))
        if kind == "answer":
            await store.answer(answer(at=AT + 20))
        elif kind == "deposit":
            await store.deposit(deposit(at=AT + 20))
        else:
            await store.cancel("run", "enough", "ann", AT + 20)

        assert await found(store) == replace(record, inbox=1, status="running", updated=AT + 20)
        assert await claimed(store) == []

    async def test_messages_to_a_run_that_is_ready(self, store: Store) -> None:
        """A run that nobody has taken yet is as ready as before."""
        record = await store.create(new_run(), None)
        await store.deposit(deposit())

        assert await found(store) == replace(record, inbox=1, wake=0.0)

    async def test_what_became_of_a_message(self, store: Store) -> None:
        """None before its owner has dealt with it; empty if it was of use; else why it was not."""
        record = await owned(store)
        for number in range(3):
            await store.deposit(deposit(body=b"%d" % number))
        messages = [replace(DEPOSIT, number=number + 1, body=b"%d" % number) for number in range(3)]
        record = await written(store, write(record, folded=(Folded(1),)))
        assert (await whole(store)).unfolded == messages[1:]
        await store.append(write(record, folded=(Folded(3, "no such name"), Folded(2))))

        seen = await whole(store)
        assert (seen.unfolded, seen.messages) == ([], list(zip(messages, ["", "", "no such name"], strict=True)))

    async def test_messages_are_numbered_in_their_run(self, store: Store, other: Store) -> None:
        """However many are sent at once, each has the next number, and none is lost."""
        for run in ("run", "another"):
            await suspended(store, run)
        numbers: list[int | None] = []

        async def send(handle: Store, number: int) -> None:
            numbers.append(await handle.deposit(deposit(body=b"%d" % number)))

        async with anyio.create_task_group() as group:
            for number in range(10):
                group.start_soon(send, (store, other)[number % 2], number)

        assert sorted(number or 0 for number in numbers) == list(range(1, 11))
        seen = await whole(store)
        assert [message.number for message in seen.unfolded] == list(range(1, 11))
        assert len({message.body for message in seen.unfolded}) == len(numbers)
        assert await store.deposit(deposit("another")) == 1

    async def test_the_mail_of_a_worker(self, store: Store) -> None:
        """Its runs with messages that are not folded in, each with the number of the last; no other worker's."""
        records = {run: await owned(store, run) for run in ("a", "b", "c")}
        await owned(store, "d", "w2")
        await suspended(store, "e")
        assert list(await store.mail("w1")) == []
        for number, run in enumerate(("a", "a", "b", "d", "e")):
            await store.deposit(deposit(run, at=AT + number))

        assert sorted(await store.mail("w1")) == [("a", 2), ("b", 1)]
        assert [list(await store.mail(worker)) for worker in ("w2", "w3")] == [[("d", 1)], []]
        await store.append(write(records["a"], folded=(Folded(1),)))
        await store.append(write(records["b"], folded=(Folded(1, "of no use"),)))
        assert list(await store.mail("w1")) == [("a", 2)]
