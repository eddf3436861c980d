"""Script: the exact effects that a computation is expected to request, with their answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skuld_async._effect import Effect, label_of
from skuld_async._handler import Handler, Installed
from skuld_async._misuse import MisuseError
from skuld_async._signals import Fault

if TYPE_CHECKING:
    from collections.abc import Sequence


class ScriptError(MisuseError):
    """The computation left the script."""

    def __init__(self, expected: str, received: str, position: int) -> None:
        super().__init__(expected, received, position)
        self.expected = expected
        self.received = received
        self.position = position

    def __str__(self) -> str:
        return f"line {self.position} of the script expects {self.expected}; the computation requests {self.received}"


class Script(Handler):
    """A handler for the effect classes it names: each request must be the script's next line.

        script = Script([(Validator.validate(purchase), valid), (Actions.execute(valid), RuntimeError("down"))])

    Args:
        lines: Pairs of an expected effect and its answer; an exception is raised.

    Gotchas:
        One script serves one run: each line is used once.
    """

    label = "Script"

    def __init__(self, lines: Sequence[tuple[Effect[Any], Any]]) -> None:
        self._lines: list[tuple[Effect[Any], Any]] = list(lines)
        self._position: int = 0

    def install(self) -> Installed:
        """Make the routes for one scope."""
        return Installed({type(effect): self._answer for effect, _ in self._lines})

    def done(self) -> None:
        """Raise `ScriptError` unless each line was requested."""
        if self._position < len(self._lines):
            raise ScriptError(_shown(self._lines[self._position][0]), "nothing more", self._position + 1)

    def _answer(self, effect: Effect[Any]) -> Any:
        if self._position == len(self._lines):
            raise Fault(ScriptError("nothing more", _shown(effect), self._position + 1))
        expected, answer = self._lines[self._position]
        self._position += 1
        if expected != effect:
            raise Fault(ScriptError(_shown(expected), _shown(effect), self._position))
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _shown(effect: Effect[Any]) -> str:
    fields = ", ".join(f"{name}={getattr(effect, name)!r}" for name in effect.__struct_fields__)
    return f"{label_of(type(effect))}({fields})"
