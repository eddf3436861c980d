"""Questions: how they are opened and closed, and how the inbox finds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace

from skuld_async.durable.errors import WaitTakenError
from skuld_async.durable.records import Append, Closing, Folded, WaitFilter, WaitRecord

from .samples import AT, MANY, Handles, answer, event, owned, question, suspended, whole, write, written

if TYPE_CHECKING:
    from skuld_async.durable.store import Store


async def taken(store: Store, item: Append) -> str | None:
    """The question that was answered first, where an append is refused for that."""
    try:
        await store.append(item)
    except WaitTakenError as error:
        return error.wait if error.run == item.run else None
    return None


class Asking(Handles):
    """`Append.opens`, `Append.closes`, `Store.wait`, `Store.waits`."""

    async def test_a_question_is_open_once_it_is_written(self, store: Store, other: Store) -> None:
        """It is found by its run and id, and in the inbox, with all of its fields."""
        bare = question(id="0/2", name=None, assignee=None, deadline=None, tags=(), question=b"", schema=b"")
        await store.append(write(await owned(store), opens=(question(), bare)))

        assert [await other.wait("run", wait) for wait in ("0/1", "0/2", "0/3")] == [question(), bare, None]
        assert await store.wait("another", "0/1") is None
        assert list(await other.waits(WaitFilter(), None, MANY)) == [question(), bare]

    @pytest.mark.parametrize("is_answered", [True, False])
    async def test_a_question_is_closed(self, store: Store, *, is_answered: bool) -> None:
        """It leaves the inbox, and can still be found, with its answer if it had one."""
        record = await written(store, write(await owned(store), opens=(question(),)))
        if is_answered:
            await store.answer(answer())
        before = await store.wait("run", "0/1")
        assert before is not None
        await store.append(write(record, closes=(Closing("0/1", answered=is_answered),)))

        after = await whole(store)
        assert (after.waits[0], after.open) == (replace(before, state="closed"), [])

    async def test_a_question_that_timed_out_after_it_was_answered(self, store: Store, other: Store) -> None:
        """Ended otherwise than by the answer that it has, it refuses the append, of which nothing is written."""
        record = await written(store, write(await owned(store), opens=(question(), question(id="0/2"))))
        await other.answer(answer(wait="0/2"))
        before = await whole(store)
        item = write(
            record,
            chunk=b"whole",
            replace=True,
            status="suspended",
            release=True,
            wake=AT + 9,
            closes=(Closing("0/1", answered=False), Closing("0/2", answered=False)),
            opens=(question(id="0/3"),),
            folded=(Folded(1),),
            events=(event(1),),
        )

        assert await taken(store, item) == "0/2"
        assert await whole(store) == before
        assert await store.wait("run", "0/3") is None
        assert await taken(store, replace(item, closes=(Closing("0/2", answered=True),))) is None
        assert [wait and wait.state for wait in (await whole(store)).waits] == ["open", "closed"]

    async def test_answer_and_timeout_do_not_both_win(self, store: Store, other: Store) -> None:
        """Whichever comes first wins: an answer after the timeout is too late."""
        record = await written(store, write(await owned(store), opens=(question(),)))
        await store.append(write(record, closes=(Closing("0/1", answered=False),)))

        assert await other.answer(answer()) == "closed"
        assert (await whole(store)).messages == []

    async def test_a_question_that_a_deposit_answered(self, store: Store) -> None:
        """Its owner closes it as answered, though the store has seen no answer: what comes then is too late."""
        record = await written(store, write(await owned(store), opens=(question(),)))
        await store.append(write(record, closes=(Closing("0/1", answered=True),)))

        assert await store.wait("run", "0/1") == question(state="closed")
        assert await store.answer(answer()) == "closed"

    async def test_a_question_that_is_asked_again(self, store: Store) -> None:
        """Opened once more, in other words, it takes the place of the first, and is open."""
        record = await written(store, write(await owned(store), opens=(question(),)))
        await store.answer(answer())
        record = await written(store, write(record, closes=(Closing("0/1", answered=True),), folded=(Folded(1),)))
        again = question(digest="other", question=b"{}", opened=AT + 5)
        await store.append(write(record, opens=(again,)))

        assert (await whole(store)).open == [again]
        assert [await store.answer(answer()), await store.answer(answer(digest="other"))] == ["unknown", "accepted"]

    async def test_a_closing_of_what_is_not_there(self, store: Store) -> None:
        """A question that was never written needs no closing, and hinders none."""
        record = await written(store, write(await owned(store), closes=(Closing("0/9", answered=False),)))
        await store.append(write(record, closes=(Closing("0/9", answered=True),)))

        assert await store.wait("run", "0/9") is None

    @pytest.mark.parametrize(
        ("only", "ids"),
        [
            (WaitFilter(), ["a", "b", "c"]),
            (WaitFilter(run="one"), ["a", "b"]),
            (WaitFilter(run="three"), []),
            (WaitFilter(workflow="refund"), ["c"]),
            (WaitFilter(tag="red"), ["b", "c"]),
            (WaitFilter(tag="re"), []),
            (WaitFilter(assignee="bob"), ["b"]),
            (WaitFilter(name="approval"), ["a", "c"]),
            (WaitFilter(opened_before=AT + 2), ["a"]),
            (WaitFilter(run="one", tag="red", name="other", assignee="bob", workflow="order"), ["b"]),
            (WaitFilter(run="one", tag="red", name="approval"), []),
        ],
        ids=str,
    )
    async def test_the_inbox_is_filtered(self, store: Store, only: WaitFilter, ids: list[str]) -> None:
        """Each field of a filter leaves only the open questions that have its value; several, those that have all."""
        opened = (
            question("one", "a", opened=AT + 1),
            question("one", "b", opened=AT + 2, tags=("small", "red"), assignee="bob", name="other"),
        )
        await suspended(store, "one", opens=opened)
        await suspended(store, "two", opens=(question("two", "c", opened=AT + 3, workflow="refund", tags=("red",)),))
        await suspended(store, "three", opens=(question("three", "d"),))
        await store.answer(answer("three", "d"))

        assert [wait.id for wait in await store.waits(only, None, MANY)] == ids

    async def test_the_inbox_is_read_page_by_page(self, store: Store) -> None:
        """The oldest come first, by time, run and id, and each page goes on behind the last one seen."""
        expected: list[WaitRecord] = []
        for run in ("B", "a", "a b", "é"):
            waits = [
                question(run, f"0/{name}", opened=AT + at) for name, at in (("Z", 1), ("10", 1), ("2", 1), ("1", 2.5))
            ]
            expected += waits
            await suspended(store, run, opens=tuple(reversed(waits)))
        expected.sort(key=lambda wait: (wait.opened, wait.run, wait.id))

        for limit in (1, 5, MANY):
            assert await _pages(store, limit) == expected
        assert await store.waits(WaitFilter(), None, 0) in ([], ())

    async def test_a_page_goes_on_where_the_last_one_seen_is_gone(self, store: Store) -> None:
        """The place in the inbox is one of times and ids: the question there may be closed meanwhile."""
        await suspended(store, opens=tuple(question(id=f"0/{number}") for number in range(4)))
        page = await store.waits(WaitFilter(), None, 2)
        last = page[-1]
        await store.answer(answer(wait=last.id))

        rest = await store.waits(WaitFilter(), (last.opened, last.run, last.id), MANY)
        assert [wait.id for wait in rest] == ["0/2", "0/3"]


async def _pages(store: Store, limit: int) -> list[WaitRecord]:
    """All open questions, read in pages of *limit*."""
    waits: list[WaitRecord] = []
    after: Any = None
    while page := await store.waits(WaitFilter(), after, limit):
        assert len(page) <= limit
        waits += page
        after = (page[-1].opened, page[-1].run, page[-1].id)
    return waits
