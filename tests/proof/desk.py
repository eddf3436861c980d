"""The desk: starts runs, answers their questions and looks at how they end, and moves none itself."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TypeVar

import anyio

from skuld_async import AnswerError, SkuldError
from skuld_async.durable import Runtime, StuckRunError
from skuld_async.durable.records import RunStatus

from .journey import SILENT, choice_of, handlers, journey, problem_of
from .places import AnyPlace, store_at

T = TypeVar("T")
PAGE = 100


async def insist(attempt: Callable[[], Awaitable[T]]) -> T:
    """Try it again until it succeeds, as a client does: the store may be down, or full."""
    while True:
        try:
            return await attempt()
        except SkuldError:
            raise
        except Exception:  # noqa: BLE001 - each driver has errors of its own
            await anyio.sleep(0.2)


class Desk:
    """A client of the runs of one place; the id of a run ends with its number."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def start(self, number: int) -> None:
        """Start a run, for any worker to take."""
        run = await insist(lambda: self._runtime.start(journey(number), id=f"run-{number}", paused=True))
        await insist(lambda: self._runtime.release(run.id))

    async def answer(self) -> None:
        """Answer all questions, until it is cancelled."""
        while True:
            page = await insist(lambda: self._runtime.waits(limit=PAGE))
            for wait in page.items:
                with suppress(AnswerError):  # its run has moved on: the answer was given, and an error was seen
                    await insist(partial(self._runtime.answer, wait, choice_of(number_of(wait.run)), by="desk"))
            await anyio.sleep(0.1)

    async def count(self, *statuses: RunStatus) -> list[str]:
        """The first runs that stand so."""
        page = await insist(lambda: self._runtime.runs(status=statuses, limit=PAGE))
        return [view.id for view in page.items]

    async def all_have_ended(self) -> None:
        """Wait until no run moves, or waits."""
        while await self.count("running", "suspended", "paused"):  # noqa: ASYNC110 - it is in the store that they end
            await anyio.sleep(0.3)

    async def has_ended(self, run: str) -> None:
        """Wait until a run moves no more."""
        with suppress(StuckRunError):
            await self._runtime.get(run).result()

    async def problems(self, run: str) -> list[str]:
        """What is wrong with a run that should have arrived."""
        found = self._runtime.get(run)
        view = await found.view()
        if view.status != "completed":
            return [f"{run} is {view.status}: {view.problem}"]
        problem = await problem_of(number_of(run), await found.result(), await found.log())
        return [] if problem is None else [f"{run}: {problem}"]


def number_of(run: str) -> int:
    """The number in the id of a run."""
    return int(run.rsplit("-", 1)[1])


@asynccontextmanager
async def desk_at(place: AnyPlace) -> AsyncGenerator[Desk]:
    """A runtime that has no room for runs; it answers while it is entered."""
    async with (
        Runtime(store_at(place), [journey], handlers(SILENT), concurrency=0) as runtime,
        anyio.create_task_group() as group,
    ):
        desk = Desk(runtime)
        group.start_soon(desk.answer)
        yield desk
        group.cancel_scope.cancel()
