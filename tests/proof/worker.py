"""A worker: a process that moves runs until it is killed. Usage: python run.py worker CONFIG.

It ends with its standard input: the harness is gone.
"""

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Literal

import anyio
import msgspec

from skuld_async.durable import Runtime
from skuld_async.stores.sqlite import SQLiteStore

from .journey import call_of, handlers, journey
from .places import AnyPlace, store_at
from .service import Service
from .stepping import SteppingClock
from .taps import Ceiling, Killer, Notary, Tap, die, tapped

Backend = Literal["asyncio", "trio"]


class Kill(msgspec.Struct, frozen=True):
    """When a worker kills itself."""

    at: Literal["before", "after", "answer"]
    """An append, or before it and behind the answer that it settles."""
    number: int


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told."""

    place: AnyPlace
    service: str
    """The counter's socket."""
    backend: Backend = "asyncio"
    lease: float = 1.5
    idle: float = 10.0
    concurrency: int = 1000
    kill: Kill | None = None
    start: tuple[str, int] | None = None
    """Id and number of the run that it starts, with which it ends."""
    clock: str | None = None
    """A file that holds by how many seconds its clock is ahead."""
    limit: str | None = None
    """A file: while it is there, the database of SQLite cannot grow."""


class Walker:
    """The port: each step is one call of the counter."""

    def __init__(self, service: Service, kill: Kill | None) -> None:
        self._service = service
        self._left = kill.number if kill is not None and kill.at == "answer" else 0

    async def do(self, step: str, value: int) -> int:
        return await self._call(step, value)

    async def once(self, step: str, value: int) -> int:
        return await self._call(step, value, once=True)

    async def _call(self, step: str, value: int, *, once: bool = False) -> int:
        answer = await self._service.call(call_of(step, value, once=once))
        self._left -= 1
        if self._left == 0:
            die()
        return answer


async def work(config: Config) -> None:
    """Move runs."""
    async with Service(config.service) as service:
        taps: list[Tap] = [Notary(service)]
        if config.kill is not None:
            at, number = config.kill.at, config.kill.number
            taps.insert(0, Killer("after", 0) if at == "answer" else Killer(at, number))
        store = store_at(config.place)
        if config.limit is not None:
            assert isinstance(store, SQLiteStore)
            taps.insert(0, Ceiling(store, Path(config.limit)))
        scope = handlers(Walker(service, config.kill))
        if config.clock is not None:
            scope.append(SteppingClock(Path(config.clock)))
        runtime = Runtime(
            tapped(store, *taps),
            [journey],
            scope,
            lease=config.lease,
            idle=config.idle,
            concurrency=config.concurrency,
            max_recoveries=1_000_000,  # they are killed more often than any run deserves
        )
        async with runtime:
            print("ready", flush=True)
            if config.start is None:
                await anyio.sleep_forever()
            else:
                run = await runtime.start(journey(config.start[1]), id=config.start[0])
                await run.result()


def end_with_the_harness() -> None:
    """Wait for the end of standard input."""
    sys.stdin.read()
    os._exit(3)


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    threading.Thread(target=end_with_the_harness, daemon=True).start()
    told = msgspec.json.decode(sys.argv[1], type=Config)
    anyio.run(work, told, backend=told.backend)
