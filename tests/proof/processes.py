"""The processes of the proof: they are started, killed, stopped, and never left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Self

import anyio
import msgspec
from anyio.abc import Process

from .worker import Config

RUN = str(Path(__file__).with_name("run.py"))


class Child:
    """A process; an async context manager, which kills what is left of it.

    Args:
        arguments: Of ``run.py``.
        errors: Where its standard error goes.
    """

    def __init__(self, arguments: list[str], errors: IO[bytes] | int) -> None:
        self._arguments = arguments
        self._errors = errors

    async def start(self) -> None:
        """Start it; it may not be ready yet."""
        command = [sys.executable, RUN, *self._arguments]
        self.process: Process = await anyio.open_process(command, stderr=self._errors)

    async def ready(self) -> None:
        """Wait until it says so."""
        assert self.process.stdout is not None
        await self.process.stdout.receive()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if self.process.returncode is None:
            os.kill(self.process.pid, number)

    async def end(self) -> int:
        """Kill it; gives how it ended."""
        self.signal(signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            code = await self.process.wait()
            await self.process.aclose()
        return code


@asynccontextmanager
async def child(arguments: list[str], errors: IO[bytes] | int) -> AsyncGenerator[Child]:
    """A process that is ended here."""
    one = Child(arguments, errors)
    await one.start()
    try:
        yield one
    finally:
        await one.end()


class Crew:
    """Workers of one scenario: who is killed is followed by another one."""

    def __init__(self, folder: Path, configs: list[Config]) -> None:
        self._folder = folder
        self._configs = configs
        self._workers: list[Child] = []
        self._stopped: set[int] = set()
        self.kills = 0
        self.pauses = 0

    async def __aenter__(self) -> Self:
        self._errors = (self._folder / "workers.txt").open("ab")
        for config in self._configs:
            self._workers.append(await self._started(config))
        for worker in self._workers:
            await worker.ready()
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._workers:
            await worker.end()
        self._errors.close()

    @property
    def pids(self) -> list[int]:
        """Numbers of the processes."""
        return [worker.process.pid for worker in self._workers]

    def __len__(self) -> int:
        return len(self._workers)

    async def kill(self, number: int) -> None:
        """Kill a worker, running or stopped; another one takes its place."""
        self.kills += 1
        await self._workers[number].end()
        self._workers[number] = await self._started(self._configs[number])

    async def pause(self, number: int, seconds: float) -> None:
        """Stop a worker for some time."""
        worker = self._workers[number]
        self.pauses += 1
        worker.signal(signal.SIGSTOP)
        await anyio.sleep(seconds)
        worker.signal(signal.SIGCONT)

    def dead(self) -> list[str]:
        """The workers that ended by themselves."""
        codes = [worker.process.returncode for worker in self._workers]
        return [f"worker {number} has ended with {code}" for number, code in enumerate(codes) if code is not None]

    async def _started(self, config: Config) -> Child:
        worker = Child(["worker", msgspec.json.encode(config).decode()], self._errors)
        await worker.start()
        return worker


@asynccontextmanager
async def counter(folder: Path, delay: float) -> AsyncGenerator[str]:
    """A counter; gives its socket."""
    path = str(folder / "counter")
    async with child(["counter", path, str(delay)], subprocess.PIPE) as process:
        await process.ready()
        yield path
