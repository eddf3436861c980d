"""The whole story in one command: `python run_all.py`.

Every step is a process of its own, as it would be on different days: the service, each submission, each decision.
Everything happens in a temporary directory; no process and no file is left behind, however the story ends. The exit
code is 1 if anything went otherwise than it is told here.
"""

import shutil
import signal
import sys
import tempfile
from pathlib import Path

from processes import HERE, serving
from story import Counters, Story

PURCHASES = HERE / "purchases"


def approved(story: Story) -> None:
    """The main line: two processes, one validation."""
    story.chapter("A laptop is submitted; the process ends with the question open")
    submitted = story.run("submit.py", PURCHASES / "laptop.json", "--log", "req-42.json")
    story.expect("it suspends with its question", holds=submitted.code == 0 and "Question to ghopper" in submitted.out)
    before = story.counters()
    story.expect("the service validated once", holds=before == Counters(validate=1, execute=0, bookings=0))
    shutil.copy(story.directory / "req-42.json", story.directory / "copy-of-req-42.json")

    story.chapter("Another process answers the question and goes on from the file")
    decided = story.run("decide.py", "req-42.json", "approved")
    story.expect("it pays", holds=decided.code == 0 and "booking B-0001" in decided.out)
    story.expect("the event is there", holds="PurchaseApproved" in decided.out)
    after = story.counters()
    story.expect("validation was not repeated", holds=after.validate == before.validate)
    story.expect("the money was spent once", holds=after.execute == after.bookings == 1)

    story.chapter("The same decision comes again")
    again = story.run("decide.py", "req-42.json", "approved")
    story.expect_sentence(again, "req-42.json", "completed")
    story.expect("the service was not asked", holds=story.counters() == after)

    story.chapter("The same decision comes to a copy of the log from before it, as after a crash")
    copied = story.run("decide.py", "copy-of-req-42.json", "approved")
    story.expect("the receipt is the same", holds=copied.code == 0 and "booking B-0001" in copied.out)
    final = story.counters()
    story.expect("the service was asked twice under one key", holds=final.execute == after.execute + 1)
    story.expect("the money was spent once all the same", holds=final.bookings == 1)


def rejected(story: Story) -> None:
    """A manager says no, which is a result like any other."""
    story.chapter("A phone is submitted, and the manager says no")
    story.run("submit.py", PURCHASES / "phone.json", "--log", "req-43.json")
    before = story.counters()
    decided = story.run("decide.py", "req-43.json", "rejected")
    story.expect("it is refused", holds=decided.code == 0 and "Refused: req-43 is not bought." in decided.out)
    story.expect("the event is there", holds="PurchaseRejected" in decided.out)
    story.expect("the service was not asked for anything", holds=story.counters() == before)


def turned_down(story: Story) -> None:
    """The workflow, or the file that should start it, is at fault: each command ends in a sentence."""
    story.chapter("A purchase that the department cannot pay for")
    done = story.run("submit.py", PURCHASES / "over-budget.json", "--log", "req-44.json")
    story.expect_sentence(done, "Field Service", "1200.00", "18400.00")

    story.chapter("A manager whom nobody knows")
    done = story.run("submit.py", PURCHASES / "unknown-manager.json", "--log", "req-45.json")
    story.expect_sentence(done, "cbabbage")

    story.chapter("A misspelt employee")
    done = story.run("submit.py", PURCHASES / "unknown-employee.json", "--log", "req-46.json")
    story.expect_sentence(done, "kjonson")

    story.chapter("A request whose amount is no number")
    before = story.counters()
    done = story.run("submit.py", PURCHASES / "not-a-purchase.json", "--log", "req-47.json")
    story.expect_sentence(done, "not-a-purchase.json", "$.amount")
    story.expect("the service was not asked", holds=story.counters() == before)


def resisted(story: Story) -> None:
    """What must not harm an open run: each leaves the file and the service as they were."""
    path = story.directory / "req-48.json"
    story.run("submit.py", PURCHASES / "projector.json", "--log", "req-48.json")
    log, counters = path.read_bytes(), story.counters()

    story.chapter("An answer that the question does not allow")
    story.expect_sentence(story.run("decide.py", "req-48.json", "maybe"), "maybe", "approved or rejected", "open")
    story.expect("the file is untouched", holds=path.read_bytes() == log)

    story.chapter("A file that was cut off")
    (story.directory / "half.json").write_bytes(log[: len(log) // 2])
    story.expect_sentence(story.run("decide.py", "half.json", "approved"), "half.json", "not a log")

    story.chapter("A workflow that was changed while the run waited")
    changed = story.run("decide.py", "req-48.json", "approved", "--workflow", "v2")
    story.expect_sentence(changed, "req-48.json", "another version", "nothing was done")
    story.expect("the file is untouched", holds=path.read_bytes() == log)

    story.expect("the service was not asked for anything", holds=story.counters() == counters)

    story.chapter("After all this, the question can still be answered")
    decided = story.run("decide.py", "req-48.json", "approved")
    story.expect("it pays", holds=decided.code == 0 and "booking B-0002" in decided.out)
    story.expect("validation was not repeated", holds=story.counters().validate == counters.validate)


def crashed(story: Story) -> None:
    """The worst moment: the service has paid, and nobody who asked for it knows."""
    story.chapter("The decision comes, and the service crashes after it has paid, before it answers")
    done = story.run("decide.py", "req-49.json", "approved")
    story.expect_sentence(done, "gave no answer")
    story.expect_sentence(story.run("retry.py", "req-49.json"), "gave no answer")


def recovered(story: Story, before: Counters) -> None:
    """The service is back: it recognises the key of the call, and its receipt is the one that was lost."""
    story.chapter("The service is back, and the failed call is made again")
    lost = story.counters()
    story.expect("the money was spent", holds=lost.bookings == before.bookings + 1)
    done = story.run("retry.py", "req-49.json")
    story.expect("the lost receipt is found", holds=done.code == 0 and "booking B-0003" in done.out)
    after = story.counters()
    story.expect("the service was asked again", holds=after.execute == lost.execute + 1)
    story.expect("the money was spent once all the same", holds=after.bookings == lost.bookings)
    story.expect("validation was not repeated", holds=after.validate == before.validate)


def tell(story: Story) -> None:
    """All chapters, over one database and three lives of the service."""
    database = story.directory / "company.db"
    with story.served_by(serving(database)):
        approved(story)
        rejected(story)
        turned_down(story)
        resisted(story)
        story.chapter("A keyboard is submitted")
        story.run("submit.py", PURCHASES / "keyboard.json", "--log", "req-49.json")
        before = story.counters()
    with story.served_by(serving(database, "--crash-after-booking")):
        crashed(story)
    with story.served_by(serving(database)):
        recovered(story, before)


def main() -> None:
    """Tell the story; say at the end whether it is true."""
    # A polite kill unwinds as Ctrl-C does, so that the service is stopped on that way out, too.
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    with tempfile.TemporaryDirectory(prefix="approval-") as directory:
        story = Story(Path(directory))
        try:
            tell(story)
        except KeyboardInterrupt:
            sys.exit("interrupted; the service was stopped.")
    if story.unmet:
        sys.exit(f"{len(story.unmet)} claims did not hold: {'; '.join(story.unmet)}.")
    print("\nAll claims hold.")


if __name__ == "__main__":
    main()
