"""Writes docs/log.schema.json: `python docs/make_schema.py`, after a change to the form of the log."""

from pathlib import Path

import msgspec

from skuld_async import Log

SCHEMA = Path(__file__).with_name("log.schema.json")


def document() -> bytes:
    """The JSON Schema of a log, as the file holds it."""
    return msgspec.json.format(msgspec.json.encode(Log.json_schema()), indent=2) + b"\n"


if __name__ == "__main__":
    SCHEMA.write_bytes(document())
