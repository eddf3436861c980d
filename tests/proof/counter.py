"""The counter: a process of its own, which the effects of runs are about. It answers every call, and notes it.

Usage: python run.py counter SOCKET SECONDS, the time that an answer takes at most. It ends with its standard input.
"""

import asyncio
import random
import sys
from typing import Any

import msgspec

from .books import Books, Call, Kept


class Request(msgspec.Struct, frozen=True):
    """A line of a connection; exactly one of its fields besides the number says what it is about."""

    id: int
    call: Call | None = None
    kept: Kept | None = None
    of: str | None = None


class Reply(msgspec.Struct, frozen=True):
    """The line that answers it."""

    id: int
    value: msgspec.Raw


_decode = msgspec.json.Decoder(Request).decode
_encode = msgspec.json.Encoder().encode


class Counter:
    """Serves connections."""

    def __init__(self, delay: float) -> None:
        self._books = Books()
        self._delay = delay
        self._chance = random.Random(0)
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, until it is closed or cut."""
        try:
            while line := await reader.readline():
                if line.endswith(b"\n"):  # else who wrote it was killed in the middle
                    self._take(_decode(line), writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    def _take(self, request: Request, writer: asyncio.StreamWriter) -> None:
        """Note it now, in the order of arrival; the answer may take its time."""
        value: Any = None
        if request.call is not None:
            value = self._books.call(request.call)
        elif request.kept is not None:
            self._books.keep(request.kept)
        elif request.of is not None:
            value = self._books.of(request.of)
        else:
            value = self._books.tally()
        line = _encode(Reply(request.id, msgspec.Raw(_encode(value)))) + b"\n"
        if request.call is None or not self._delay:
            writer.write(line)
            return
        task = asyncio.create_task(self._answer(writer, line))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, writer: asyncio.StreamWriter, line: bytes) -> None:
        await asyncio.sleep(self._chance.uniform(0, self._delay))
        if not writer.is_closing():
            writer.write(line)


async def main(path: str, delay: float) -> None:
    """Serve until standard input ends: the harness is gone."""
    server = await asyncio.start_unix_server(Counter(delay).serve, path, limit=2**24)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2])))
