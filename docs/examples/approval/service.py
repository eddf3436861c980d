"""The validator, a real HTTP service: `python service.py --database company.db`.

It listens on loopback, on a port that the system chooses, and prints its address as its only line of output. It
knows nothing of workflows: whoever calls it sees a company that checks purchases and pays for them.

- `POST /validate`: a purchase; answers it with department and budget, or a problem.
- `POST /execute`: a purchase, under an `Idempotency-Key`; answers a receipt, the same one for the same key.
- `GET /counters`: how many requests of each kind were served, and how many bookings exist.

A problem is a 4xx with a JSON object whose `error` says which one.
"""

import argparse
import os
import socket
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec
import uvicorn
from company import Company, Problem, Purchase, Receipt
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route


class BadRequest(Problem, frozen=True, tag="bad_request"):
    """The request cannot be read."""

    status = 400
    detail: str


class CrashingCompany(Company):
    """Dies at the worst moment: the money is spent, and whoever asked for it never learns."""

    def execute(self, purchase: Purchase, key: str) -> Receipt | Problem:
        """Pay, and die before the answer is sent."""
        super().execute(purchase, key)
        os._exit(1)


async def validate(company: Company, request: Request) -> Response:
    """Check a purchase."""
    purchase = await _purchase(request)
    if isinstance(purchase, BadRequest):
        return _answer(purchase)
    return _answer(await run_in_threadpool(company.validate, purchase))


async def execute(company: Company, request: Request) -> Response:
    """Pay for a purchase, once for each key."""
    key = request.headers.get("Idempotency-Key")
    if not key:
        return _answer(BadRequest("a purchase is executed under an Idempotency-Key only"))
    purchase = await _purchase(request)
    if isinstance(purchase, BadRequest):
        return _answer(purchase)
    return _answer(await run_in_threadpool(company.execute, purchase, key))


async def counters(company: Company, _request: Request) -> Response:
    """Tell what was served."""
    return _answer(await run_in_threadpool(company.counters))


async def _purchase(request: Request) -> Purchase | BadRequest:
    try:
        return msgspec.json.decode(await request.body(), type=Purchase)
    except msgspec.MsgspecError as error:
        return BadRequest(str(error))


def _answer(body: msgspec.Struct) -> Response:
    status = body.status if isinstance(body, Problem) else 200
    return Response(msgspec.json.encode(body), status, media_type="application/json")


def application(company: Company) -> Starlette:
    """The service as an ASGI application, for a server or for a test without one."""
    return Starlette(
        routes=[
            Route("/validate", partial(validate, company), methods=["POST"]),
            Route("/execute", partial(execute, company), methods=["POST"]),
            Route("/counters", partial(counters, company), methods=["GET"]),
        ]
    )


def _stop_at_end_of_input(server: uvicorn.Server) -> None:
    while os.read(0, 1024):
        pass
    server.should_exit = True


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description="Serve the purchase validator on loopback.")
    parser.add_argument("--database", type=Path, required=True, help="SQLite file; seeded if it does not exist")
    parser.add_argument("--port", type=int, default=0, help="0, the default, lets the system choose")
    parser.add_argument(
        "--stop-at-end-of-input",
        action="store_true",
        help="stop when standard input is closed: a parent that dies, however it dies, takes the service along",
    )
    parser.add_argument(
        "--crash-after-booking", action="store_true", help="die when a purchase is paid for, before the answer is sent"
    )
    arguments = parser.parse_args()
    company = CrashingCompany if arguments.crash_after_booking else Company
    app = application(company(arguments.database))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2))
    if arguments.stop_at_end_of_input:
        threading.Thread(target=_stop_at_end_of_input, args=(server,), daemon=True).start()
    # The socket listens before its address is printed: whoever reads the line can connect at once.
    with socket.create_server(("127.0.0.1", arguments.port)) as listener, suppress(KeyboardInterrupt):
        print(f"http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
