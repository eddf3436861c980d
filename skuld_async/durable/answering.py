"""Answering: an answer is decoded by the class of its question before it is consumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from skuld_async._answers import AlreadyAnsweredError, InvalidAnswerError, NotWaitingError, TooLateError
from skuld_async._declared import Misfit, decode_plain, describe
from skuld_async.effects.yield_ import Yield
from skuld_async.log.codec import codec_of

from .errors import UnknownQuestionError, UnknownWaitError
from .records import NewAnswer
from .tokens import BadTokenError
from .views import Accepted, OpenWait, address, time_of

if TYPE_CHECKING:
    from .clock import RunClock
    from .records import WaitRecord
    from .store import Store
    from .tokens import Tokens

_read_address = msgspec.json.Decoder(tuple[str, str, str]).decode


def question_class(sig: str) -> type[Yield[Any]] | None:
    """The class of the questions of that name, if this process has declared it."""
    waiting: list[type[Yield[Any]]] = [Yield]
    found: type[Yield[Any]] | None = None
    while waiting:
        kind = waiting.pop()
        if sig == kind.__sig__ or sig in kind.__aliases__:
            found = kind
        waiting += kind.__subclasses__()
    return found


def question_schema(sig: str) -> bytes | None:
    """JSON Schema of the questions of that name; None where their class is not known."""
    kind = question_class(sig)
    return None if kind is None else codec_of(kind).fields.schema()


class Counter:
    """Takes answers for a store."""

    def __init__(self, store: Store, tokens: Tokens, clock: RunClock) -> None:
        self._store = store
        self._tokens = tokens
        self._clock = clock

    async def find(self, to: str | OpenWait) -> WaitRecord:
        """The question that *to* is the token or the view of.

        Raises:
            BadTokenError: It is no token.
            UnknownWaitError: There is no such question.
        """
        if isinstance(to, OpenWait):
            run, wait, digest = to.run, to.id, to.digest
        else:
            try:
                run, wait, digest = _read_address(self._tokens.read(to))
            except msgspec.DecodeError:
                problem = "it is no address of a wait"
                raise BadTokenError(problem) from None
        found = await self._store.wait(run, wait)
        if found is None or found.digest != digest:
            raise UnknownWaitError(address(run, wait, digest))
        return found

    async def answer(self, to: str | OpenWait, value: Any, by: str) -> Accepted:
        """Check *value* and consume the question; raises `AnswerError`, and then nothing was consumed."""
        wait = await self.find(to)
        return await self._consume(wait, self._checked(wait, value), by)

    async def answer_json(self, to: str | OpenWait, body: bytes | str, by: str) -> Accepted:
        """The same of a JSON document."""
        wait = await self.find(to)
        try:
            value = decode_plain(body.encode() if isinstance(body, str) else body)
        except (ValueError, RecursionError) as error:
            raise InvalidAnswerError(wait.sig, wait.id, f"it is no JSON ({error})", "JSON") from None
        return await self._consume(wait, self._checked(wait, value), by)

    def _checked(self, wait: WaitRecord, value: Any) -> bytes:
        kind = question_class(wait.sig)
        if kind is None:
            raise UnknownQuestionError(wait.sig)
        codec = codec_of(kind)
        try:
            data, _ = codec.answer.admit(value)
        except Misfit as error:
            raise InvalidAnswerError(codec.label, wait.id, str(error), describe(codec.answer.type)) from None
        return data

    async def _consume(self, wait: WaitRecord, body: bytes, by: str) -> Accepted:
        at = self._clock.seconds()
        ref = f"{wait.run}/{wait.id}={wait.digest}"
        is_late = wait.deadline is not None and at >= wait.deadline
        if is_late and wait.state != "answered":
            raise TooLateError(ref, f"{time_of(wait.deadline or 0)}")
        became = await self._store.answer(NewAnswer(wait.run, wait.id, wait.digest, body, by, at))
        if became == "conflict":
            raise AlreadyAnsweredError(ref)
        if became == "closed":
            raise NotWaitingError(wait.run, "past that question")
        if became == "unknown":
            raise UnknownWaitError(address(wait.run, wait.id, wait.digest))
        return Accepted(run=wait.run, wait=wait.id, by=by, at=time_of(at), repeated=became == "repeated")
