"""A process of its own for `test_processes`: goes on with the run in a folder, and writes its log there at each step.

Usage: python worker.py FOLDER BACKEND [ANSWER]
"""

import signal
import sys
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskStatus

from skuld_async import Effect, Effectful, Log, Return, Yield, computation, current_call, resume, start

FOLDER = Path(sys.argv[1])


class Charge(Effect[str], frozen=True):
    cents: int


class Ship(Effect[str], frozen=True):
    """Its receiver hangs as long as there is a file named `hang`."""

    order: str


class Approve(Yield[str], frozen=True):
    order: str


@computation(name="worker:order")
async def order(name: str) -> Effectful[str]:
    receipt = yield Charge(100)
    decision = yield Approve(name)
    parcel = yield Ship(name)
    yield Return(f"{receipt}, {decision}, {parcel}")


def arrive(what: str) -> None:
    """The other end: a file that each call is appended to, with its key."""
    with (FOLDER / "arrived.txt").open("a", encoding="utf-8") as file:
        file.write(f"{what} {current_call().key}\n")


async def charge(effect: Charge) -> str:
    arrive(f"charge {effect.cents}")
    return "charged"


async def ship(effect: Ship) -> str:
    save()
    arrive(f"ship {effect.order}")
    print("in flight", flush=True)
    if (FOLDER / "hang").exists():
        await anyio.sleep_forever()
    return "shipped"


log = Log()


def save() -> None:
    part = FOLDER / "log.part"
    part.write_bytes(log.to_json())
    part.replace(FOLDER / "log.json")


async def main() -> None:
    handlers = [Charge.handled_by(charge), Ship.handled_by(ship)]
    stored = FOLDER / "log.json"
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def on_signal(*, task_status: TaskStatus[None]) -> None:
                with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                    task_status.started()
                    print("ready", flush=True)
                    async for _ in signals:
                        scope.cancel()

            await group.start(on_signal)
            if not stored.exists():
                outcome = await start(order("o-1"), *handlers, id="run-1", into=log)
            else:
                given: Any = {"answer": sys.argv[3]} if len(sys.argv) > 3 else {}
                outcome = await resume(order("o-1"), Log.from_json(stored.read_bytes()), *handlers, into=log, **given)
            print(type(outcome).__name__, getattr(outcome.log.header, "status", ""), flush=True)
            group.cancel_scope.cancel()
    save()
    if scope.cancelled_caught:
        print("cancelled by the host", flush=True)


if __name__ == "__main__":
    anyio.run(main, backend=sys.argv[2])
