"""A process with a folder of runs: writes to one without end, or holds it, until it is killed."""

import sys

import anyio
from msgspec.structs import replace

from skuld_async.durable.records import Append, NewRun
from skuld_async.stores.file import FileStore

BEGIN = NewRun("run", "order", None, b"{}", (), paused=False, chunk=b"[1]", at=1.0)
NEXT = Append(run="run", worker="w1", token=1, number=2, at=2.0)


async def main(folder: str, task: str) -> None:
    async with FileStore(folder) as store:
        number = (await store.create(BEGIN, "w1")).appends
        tell(number)
        if task == "hold":
            sys.stdin.read()
        while True:
            number += 1
            await store.append(replace(NEXT, number=number, chunk=b"[%d]" % number, replace=number % 50 == 0))
            tell(number)


def tell(number: int) -> None:
    """Which append has returned."""
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
