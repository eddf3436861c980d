"""First process: `python submit.py purchases/laptop.json --service URL --log req-42.json`.

Starts the workflow, which validates the purchase and stops at its question. The log goes to a file, the process
ends, and nothing waits anywhere but the file.
"""

import argparse
import sys
from pathlib import Path

import anyio
import msgspec
from adapters import connect, handlers
from logfile import kept_on_error, write_log
from presentation import show
from workflow import Purchase, Receipt, Refusal, approval

from skuld_async import Outcome, start


async def submit(purchase: Purchase, service: str, path: Path) -> Outcome[Receipt | Refusal]:
    """Start the workflow and keep its log, also when it failed: the log says why."""
    with kept_on_error(path):
        async with connect(service) as client:
            outcome = await start(approval(purchase), *handlers(client))
    write_log(path, outcome.log)
    return outcome


def read_purchase(path: Path) -> Purchase:
    """The purchase in this file; ends the command with a sentence if there is none."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Purchase)
    except OSError as error:
        sys.exit(f"{path} cannot be read: {error.strerror}.")
    except msgspec.MsgspecError as error:
        sys.exit(f"{path} is not a purchase request: {error}.")


def main() -> None:
    """Read the command line and submit."""
    parser = argparse.ArgumentParser(description="Submit a purchase request.")
    parser.add_argument("purchase", type=Path, help="JSON file with the request")
    parser.add_argument("--service", required=True, help="address that service.py printed")
    parser.add_argument("--log", type=Path, required=True, help="file for the log of this run")
    arguments = parser.parse_args()
    purchase = read_purchase(arguments.purchase)
    if not arguments.log.parent.is_dir():
        sys.exit(f"{arguments.log.parent} is not a directory; nothing was submitted.")
    if arguments.log.exists():
        sys.exit(f"{arguments.log} is the log of a run that was submitted before; nothing was submitted.")
    show(anyio.run(submit, purchase, arguments.service, arguments.log))


if __name__ == "__main__":
    main()
