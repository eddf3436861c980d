"""Writes log.schema.json beside this file: `python docs/reference/make_schema.py`, after a change to a log's form."""

from pathlib import Path

import msgspec

from skuld_async import Log

SCHEMA = Path(__file__).with_name("log.schema.json")


def document() -> bytes:
    """The JSON Schema of a log, as the file holds it."""
    return msgspec.json.format(msgspec.json.encode(Log.json_schema()), indent=2) + b"\n"


if __name__ == "__main__":
    SCHEMA.write_bytes(document())
