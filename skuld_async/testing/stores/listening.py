"""What a listener hears."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import anyio
import pytest

from skuld_async.durable.records import Folded

from .samples import (
    AT,
    Handles,
    answer,
    claimed,
    deposit,
    event,
    found,
    new_run,
    owned,
    question,
    settled,
    suspended,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from skuld_async.durable.store import Listener, Store

PATIENCE = 10.0
"""Seconds after which a change was not heard."""

Step: TypeAlias = "Callable[[Store], Awaitable[object]]"


async def hears(listener: Listener, run: str = "run") -> bool:
    """Whether a change of *run* is heard: by its id, or as one of a run that is not known."""
    with anyio.move_on_after(PATIENCE):
        while True:
            changed = await listener.changed(PATIENCE)
            if changed is None or run in changed:
                return True
    return False


async def _new(store: Store) -> object:
    return await store.create(new_run(), None)


async def _owned(store: Store) -> object:
    return await owned(store)


async def _asked(store: Store) -> object:
    return await suspended(store, opens=(question(),))


async def _due(store: Store) -> object:
    return await suspended(store, wake=AT)


async def _parked(store: Store) -> object:
    return await settled(store, "needs_attention")


async def _nothing(_store: Store) -> None:
    """There is nothing yet."""


async def _answered(store: Store) -> object:
    return await store.answer(answer())


async def _deposited(store: Store) -> object:
    return await store.deposit(deposit())


async def _cancelled(store: Store) -> object:
    return await store.cancel("run", "enough", "ann", AT + 4)


async def _released(store: Store) -> None:
    await store.append(write(await found(store), release=True, wake=AT + 99))


async def _settled(store: Store) -> None:
    await store.append(write(await found(store), status="suspended"))


async def _told(store: Store) -> None:
    await store.append(write(await found(store), events=(event(1),)))


async def _requeued(store: Store) -> object:
    return await store.requeue("run", AT + 5)


async def _requeued_all(store: Store) -> object:
    return await store.requeue_known("divergence", ["order"], AT + 5)


async def _taken(store: Store) -> object:
    return await claimed(store)


CHANGES: dict[str, tuple[Step, Step]] = {
    "a new run": (_nothing, _new),
    "an answer": (_asked, _answered),
    "a deposit to a suspended run": (_asked, _deposited),
    "a deposit to an owned run": (_owned, _deposited),
    "a cancel": (_owned, _cancelled),
    "a cancel of a parked run": (_parked, _cancelled),
    "a lease that is given back": (_owned, _released),
    "another status": (_owned, _settled),
    "a suspended run that is taken": (_due, _taken),
    "an event": (_owned, _told),
    "a run that is let go": (_parked, _requeued),
    "runs that are let go": (_parked, _requeued_all),
}
"""What each listener hears: what has to happen first, and the change."""


class Listening(Handles):
    """`Store.listen`."""

    @pytest.mark.parametrize("change", CHANGES)
    async def test_each_change_is_heard(self, store: Store, other: Store, change: str) -> None:
        """By whichever handle it is made, listeners of both hear of it, though they asked only afterwards."""
        before, step = CHANGES[change]
        await before(store)
        async with store.listen() as here, other.listen() as there:
            await step(store)

            assert (await hears(here), await hears(there)) == (True, True)

    @pytest.mark.parametrize("change", CHANGES)
    async def test_a_change_wakes_who_waits(self, store: Store, other: Store, change: str) -> None:
        """A listener that waits when the change is made comes back with it."""
        before, step = CHANGES[change]
        await before(store)
        heard: list[bool] = []
        async with store.listen() as listener, anyio.create_task_group() as group:

            async def listen() -> None:
                heard.append(await hears(listener))

            group.start_soon(listen)
            await anyio.wait_all_tasks_blocked()
            await step(other)

        assert heard == [True]

    async def test_a_wait_ends_when_its_time_is_over(self, store: Store) -> None:
        """Where nothing changes any more, a listener comes back after the time that it was given, with no run."""
        async with store.listen() as listener:
            await _new(store)
            assert await hears(listener)
            is_over = False
            with anyio.move_on_after(PATIENCE):
                while not is_over:
                    changed = await listener.changed(0.05)
                    is_over = changed is not None and not changed

        assert is_over

    async def test_nothing_is_lost_between_two_calls(self, store: Store, other: Store) -> None:
        """Changes that are made while nobody waits are heard at the next call, of however many runs."""
        async with store.listen() as listener:
            await _new(store)
            assert await hears(listener)
            left = {"a", "b", "c"}
            for run in left:
                await other.create(new_run(run), None)
            with anyio.move_on_after(PATIENCE):
                while left:
                    changed = await listener.changed(PATIENCE)
                    left -= left if changed is None else {*changed}

        assert left == set()

    async def test_each_listener_hears_for_itself(self, store: Store) -> None:
        """What one of them has heard, another one hears as well."""
        async with store.listen() as first, store.listen() as second:
            await _new(store)
            assert await hears(first)

            assert await hears(second)

    async def test_a_listener_may_be_given_up(self, store: Store) -> None:
        """A wait that is cancelled loses nothing: the next one hears what has changed."""
        async with store.listen() as listener:
            async with anyio.create_task_group() as group:
                group.start_soon(listener.changed, PATIENCE)
                await anyio.wait_all_tasks_blocked()
                group.cancel_scope.cancel()
            record = await owned(store)
            await store.deposit(deposit())
            await store.append(write(record, folded=(Folded(1),)))

            assert await hears(listener)
