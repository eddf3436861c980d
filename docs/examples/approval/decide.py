"""Second process: `python decide.py req-42.json approved --service URL`.

Reads the log, answers its question and goes on behind it: validation is answered from the log, not by the service.
A decision that is refused, and a workflow that no longer fits the log, leave the file as it is.
"""

import argparse
from pathlib import Path

import anyio
import workflow
import workflow_v2
from adapters import connect, handlers
from logfile import kept_on_error, purchase_of, read_log, write_log
from presentation import one_sentence, show, show_counters
from workflow import Receipt, Refusal

from skuld_async import Outcome, resume

WORKFLOWS = {"v1": workflow.approval, "v2": workflow_v2.approval}


async def decide(path: Path, decision: str, service: str, version: str) -> Outcome[Receipt | Refusal]:
    """Resume the run with the decision, and keep its log."""
    log = read_log(path)
    approval = WORKFLOWS[version]
    with kept_on_error(path, log):
        async with connect(service) as client:
            outcome = await resume(approval(purchase_of(log)), log, *handlers(client), answer=decision)
    write_log(path, outcome.log)
    return outcome


def main() -> None:
    """Read the command line and decide."""
    parser = argparse.ArgumentParser(description="Decide about a purchase request.")
    parser.add_argument("log", type=Path, help="file that submit.py wrote")
    parser.add_argument("decision", help="approved or rejected; the workflow, not this command, checks it")
    parser.add_argument("--service", required=True, help="address that service.py printed")
    parser.add_argument("--workflow", choices=WORKFLOWS, default="v1", help="v2 was changed after the run started")
    arguments = parser.parse_args()
    with one_sentence(arguments.log):
        outcome = anyio.run(decide, arguments.log, arguments.decision, arguments.service, arguments.workflow)
    show(outcome)
    show_counters(arguments.service)


if __name__ == "__main__":
    main()
