"""A later process: `python retry.py req-42.json --service URL`.

For a run that failed, for example because the service was down. Everything before the failure is answered from the
log; the call that failed is made again, under its own key if nobody knows whether it arrived.
"""

import argparse
from pathlib import Path

import anyio
from adapters import connect, handlers
from logfile import kept_on_error, purchase_of, read_log, write_log
from presentation import one_sentence, show, show_counters
from workflow import Receipt, Refusal, approval

from skuld_async import Outcome, rerun


async def retry(path: Path, service: str) -> Outcome[Receipt | Refusal]:
    """Run the failed call again, and keep the log."""
    log = read_log(path)
    with kept_on_error(path, log):
        async with connect(service) as client:
            outcome = await rerun(approval(purchase_of(log)), log, *handlers(client))
    write_log(path, outcome.log)
    return outcome


def main() -> None:
    """Read the command line and retry."""
    parser = argparse.ArgumentParser(description="Go on with a purchase request that failed.")
    parser.add_argument("log", type=Path, help="file that submit.py or decide.py wrote")
    parser.add_argument("--service", required=True, help="address that service.py printed")
    arguments = parser.parse_args()
    with one_sentence(arguments.log):
        outcome = anyio.run(retry, arguments.log, arguments.service)
    show(outcome)
    show_counters(arguments.service)


if __name__ == "__main__":
    main()
