"""itsdangerous: tokens of waits that nobody else can make."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from skuld_async._errors import DeclarationError
from skuld_async.durable.tokens import BadTokenError, ExpiredTokenError, PlainTokens

try:
    from itsdangerous import BadSignature, TimestampSigner
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        "skuld_async.contrib.itsdangerous needs the package itsdangerous: pip install 'skuld-async[tokens]'",
        name=missing.name,
    ) from missing

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

_PURPOSE = b"skuld_async.wait"  # a signature that the application made for something else is none of ours


class SignedTokens:
    """Tokens that are signed with a secret (HMAC-SHA256), and hold the time at which they were made, in whole seconds.

    They are not encrypted: whoever has one can read the reference in it.

    Args:
        secret: What only this application knows, or several such, the oldest first: the last one signs, all are
            accepted. To replace a secret, append the new one, and drop the old one when its tokens have expired.
        max_age: How long a token is good for; None for ever. A token that claims to be made in the future is taken: the
            clocks of two machines differ.
    """

    def __init__(self, secret: str | bytes | Sequence[str | bytes], *, max_age: timedelta | None = None) -> None:
        several = [secret] if isinstance(secret, str | bytes) else secret
        secrets = [one.encode() if isinstance(one, str) else one for one in several]
        if not secrets or not all(secrets):
            problem = "without a secret anybody can sign"
            raise DeclarationError("SignedTokens(secret)", problem, "give what secrets.token_hex(32) once gave")
        self._signer = TimestampSigner(secrets, _PURPOSE, digest_method=hashlib.sha256, key_derivation="hmac")
        self._max_age = max_age
        self._plain = PlainTokens()

    def sign(self, ref: str) -> str:
        """The token of *ref*, which is good from now on."""
        return self._signer.sign(self._plain.sign(ref)).decode()

    def read(self, token: str) -> str:
        """The reference that *token* was made of; raises `BadTokenError` if it was not signed here, or has expired."""
        try:
            signed, made = self._signer.unsign(token, return_timestamp=True)
        except (BadSignature, UnicodeError):
            raise BadTokenError("its signature is not ours") from None
        if self._max_age is not None and datetime.now(UTC) - made > self._max_age:
            raise ExpiredTokenError(f"it was made at {made:%Y-%m-%d %H:%M:%S} UTC, for {self._max_age}")
        return self._plain.read(signed.decode())
