"""Fresh: identifiers that are new in each run and the same on each replay."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from skuld_async._effect import Effect, Kind


class FreshUUID(Effect[UUID], frozen=True):
    """Effect of `Fresh.uuid`."""

    __kind__ = Kind.DERIVED
    __sig__ = "Fresh.uuid"
    __label__ = "Fresh.uuid"

    def __perform__(self, frame: Any) -> UUID:  # pyright: ignore[reportIncompatibleVariableOverride] - in place of None
        import hashlib  # noqa: PLC0415 - not needed to import the library

        name = f"{frame.strand.seed}/{frame.place.current_id}".encode()
        return UUID(bytes=hashlib.blake2b(name, digest_size=16, person=b"skuld.fresh").digest(), version=4)


class Fresh:
    """Identifiers derived from the run's seed and the entry's id: nothing is stored, nothing can be lost."""

    @staticmethod
    def uuid() -> Effect[UUID]:
        """A UUID that no other request gets, of this run or of a run with another seed."""
        return FreshUUID()
