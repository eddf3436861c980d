"""Values that would not come out the same again are kept before anybody acts on them."""

from typing import Any, Protocol

import anyio
from anyio import wait_all_tasks_blocked
from anyio.lowlevel import checkpoint

from skuld_async import Clock, Effectful, Parallel, Port, Return, computation, operation
from skuld_async.durable import Runtime
from skuld_async.durable.records import Append
from skuld_async.stores.memory import MemoryStore


class Bank(Port, Protocol):
    @operation
    async def book(self, at: float) -> int: ...


@computation(name="unstable:both")
async def both() -> Effectful[int]:
    at = (yield Clock.now()).timestamp()
    first, second = yield Parallel.all(Bank.book(at), Bank.book(at + 1))
    yield Return(first + second)


class Calls:
    def __init__(self) -> None:
        self.made = 0

    async def book(self, at: float) -> int:
        self.made += 1
        await checkpoint()
        return 1


class Held(MemoryStore):
    """Its appends wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = anyio.Event()
        self.let_go = anyio.Event()

    async def append(self, item: Append) -> None:
        self.reached.set()
        await self.let_go.wait()
        await super().append(item)


async def test_a_branch_waits_for_the_append_of_another_one() -> None:
    """8.2 What was read before the branches is on its way to the store for one of them: the other one waits for it too.

    If it called at once, and the process died before the commit, the next one would read another time, and call with
    other arguments under the same key.
    """
    calls, store = Calls(), Held()
    handlers: list[Any] = [Bank.handler(calls)]
    async with Runtime(store, [both], handlers) as runtime:
        run = await runtime.start(both())
        await store.reached.wait()
        await wait_all_tasks_blocked()
        made = calls.made
        store.let_go.set()
        result = await run.result(5)
    assert (made, result, calls.made) == (0, 2, 2)
