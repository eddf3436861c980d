"""What `run_all.py` is told with: chapters, commands as a person would type them, and claims that are checked."""

import sys
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import httpx
import msgspec
from processes import Finished, Service, command


class Counters(msgspec.Struct, frozen=True):
    """What the service counts."""

    validate: int
    execute: int
    bookings: int


class Story:
    """Tells what happens and remembers what should not have happened."""

    service: Service
    """The service that commands are sent to; the last one, also when it is dead."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.unmet: list[str] = []

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        print(f"\n== {title}", flush=True)

    def run(self, script: str, *arguments: str | Path) -> Finished:
        """Run a command against the current service, and show what a person would see."""
        done = command(self.directory, script, *arguments, "--service", self.service.url)
        shown = (Path(argument).name if isinstance(argument, Path) else argument for argument in arguments)
        print("$", script, *shown)
        for line in (done.out + done.err).splitlines():
            print("   ", line)
        sys.stdout.flush()
        return done

    def expect(self, claim: str, *, holds: bool) -> None:
        """Say whether a claim holds."""
        print("  ok:" if holds else "  NOT TRUE:", claim, flush=True)
        if not holds:
            self.unmet.append(claim)

    def expect_sentence(self, done: Finished, *words: str) -> None:
        """Expect that a command ended in one sentence with these words."""
        one = done.out == "" and done.err.count("\n") == 1 and done.err.endswith(".\n")
        said = all(word in done.err for word in words)
        self.expect("it ends in one sentence, exit code 1", holds=done.code == 1 and one and said)

    def counters(self) -> Counters:
        """What the service says it has done."""
        response = httpx.get(f"{self.service.url}/counters", trust_env=False).raise_for_status()
        return msgspec.json.decode(response.content, type=Counters)

    @contextmanager
    def served_by(self, serving: AbstractContextManager[Service]) -> Generator[None, None, None]:
        """Send the commands to this service."""
        with serving as self.service:
            print(f"\nservice: process {self.service.pid} at {self.service.url}", flush=True)
            yield
