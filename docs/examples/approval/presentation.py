"""What the commands print: an outcome for those it went well for, one sentence for the others."""

import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
from workflow import ApprovalNeeded, Receipt, Refusal, events

from skuld_async import (
    Completed,
    DivergenceError,
    Failed,
    InvalidAnswerError,
    LogDecodeError,
    NotWaitingError,
    OtherQuestionError,
    Outcome,
    RerunRefusedError,
    Suspended,
    UndecodableError,
    Wait,
)


class Choice(msgspec.Struct):
    """The JSON Schema of an answer that is one of several words."""

    enum: list[str]


def choices(wait: Wait) -> str:
    """The words that answer this question: a form would make buttons of the same schema."""
    return " or ".join(msgspec.json.decode(wait.schema, type=Choice).enum)


def show(outcome: Outcome[Receipt | Refusal]) -> None:
    """Print where the run stands and its log; a failed run ends the command with the sentence of its error."""
    match outcome:
        case Suspended(question=ApprovalNeeded(purchase=purchase), wait=Wait() as wait):
            print(f"Question to {purchase.manager}: may {purchase.employee} buy this?")
            print(
                f"  {purchase.item}, {purchase.amount} EUR, from {purchase.department} ({purchase.available} EUR left)"
            )
            print(f"  Answer: {choices(wait)}")
        case Completed(value=Receipt() as receipt):
            print(f"Paid: {receipt.amount} EUR from {receipt.department}, booking {receipt.booking}.")
        case Completed(value=Refusal() as refusal):
            print(f"Refused: {refusal.purchase} is not bought.")
        case Failed(error=error):
            sys.exit(str(error))
        case other:
            sys.exit(f"The run ended as no approval should: {other}.")
    print("Events:", ", ".join(repr(event) for event in outcome.output(events)) or "none")
    print(outcome.log)


def show_counters(service: str) -> None:
    """Print what the service says it has done: no claim of the workflow's own."""
    response = httpx.get(f"{service}/counters", trust_env=False).raise_for_status()
    counters = msgspec.json.decode(response.content, type=dict[str, int])
    print("Service:", ", ".join(f"{kind} {count}" for kind, count in counters.items()))


@contextmanager
def one_sentence(path: Path) -> Generator[None, None, None]:
    """End the command with a sentence where the log or the decision is at fault; the file is as it was."""
    try:
        yield
    except FileNotFoundError:
        sys.exit(f"{path} does not exist; submit.py writes it.")
    except IsADirectoryError:
        sys.exit(f"{path} is a directory, not a log.")
    except LogDecodeError as error:
        sys.exit(f"{path} is damaged or not a log ({error.problem}); nothing was done.")
    except InvalidAnswerError as error:
        [wait] = error.log.waits
        sys.exit(f"That does not answer the question, which stays open for {choices(wait)} ({error.problem}).")
    except OtherQuestionError:
        sys.exit(f"{path} no longer asks the question that it was written with; nothing was done.")
    except UndecodableError as error:
        sys.exit(f"{path} holds a value that the workflow cannot read ({error.problem}); nothing was done.")
    except NotWaitingError as error:
        sys.exit(f"{path} waits for no decision: the run is {error.status}.")
    except RerunRefusedError as error:
        sys.exit(f"{path} cannot be retried: {error.problem}.")
    except DivergenceError as error:
        sys.exit(f"{path} was written by another version of the workflow ({error.what}); nothing was done.")
