"""Tokens: how the address of a wait is written where a stranger sees it, in a link, a form or a chat message."""

from __future__ import annotations

import base64
import binascii
from typing import Protocol

from .errors import RunError


class BadTokenError(RunError, ValueError):
    """A token that leads to no wait: nobody gave it out, or it was changed on its way."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem

    def __str__(self) -> str:
        return f"this is no token of a wait: {self.problem}. Take it as it was given out, whole and unchanged"


class ExpiredTokenError(BadTokenError):
    """A token that was good once; what is still open can be given a new one."""

    def __str__(self) -> str:
        return f"this token of a wait is no longer good: {self.problem}. The inbox of open waits gives new ones"


class Tokens(Protocol):
    """Makes tokens of references to waits, and reads them again."""

    def sign(self, ref: str) -> str:
        """The token of *ref*: of letters, digits, ``-``, ``_`` and ``.``, so that it stands in a URL as it is."""
        ...

    def read(self, token: str) -> str:
        """The reference that *token* was made of.

        Raises:
            BadTokenError: It is none of this kind; `ExpiredTokenError` if it was once.
        """
        ...


class PlainTokens:
    """Tokens that anybody can make: the reference in URL-safe base64, without padding.

    *Gotchas*: they are not signed. Whoever can guess the id of a run can answer its questions, so let only users answer
    whom the application has authenticated, or take `skuld_async.contrib.itsdangerous.SignedTokens`.
    """

    def sign(self, ref: str) -> str:
        """The token of *ref*."""
        return base64.urlsafe_b64encode(ref.encode()).decode().rstrip("=")

    def read(self, token: str) -> str:
        """The reference that *token* was made of; raises `BadTokenError` for anything that `sign` does not give."""
        try:
            ref = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        except (binascii.Error, ValueError):
            raise BadTokenError("it is not URL-safe base64 of text") from None
        # The decoder skips characters that it does not know: one reference has one token, and no other.
        if not ref or self.sign(ref) != token:
            raise BadTokenError("it is not written as tokens are")
        return ref
