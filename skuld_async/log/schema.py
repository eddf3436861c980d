"""The JSON Schema of a log, for those who read or edit one in another language."""

from __future__ import annotations

from types import GenericAlias
from typing import Any

import msgspec
from msgspec import Raw

from .entry import Entry, Header


def schema_of_log() -> dict[str, Any]:
    """The JSON Schema of the document that `Log.to_json` writes."""
    header, entry = _plain(Header), _plain(Entry)
    entries = GenericAlias(list, (entry,))
    log = msgspec.defstruct(
        "Log", [("header", header), ("entries", entries, []), ("dropped", entries, [])], forbid_unknown_fields=True
    )
    schema = msgspec.json.schema(log)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "skuld_async log", **schema}


def _plain(kind: type[msgspec.Struct]) -> Any:
    """*kind* with ordinary values as defaults: msgspec makes no schema of a default that is JSON already."""
    fields: list[Any] = []
    for field in msgspec.structs.fields(kind):
        if isinstance(field.default, Raw):
            fields.append((field.name, Any, msgspec.json.decode(field.default)))
        elif field.required:
            fields.append((field.name, field.type))
        elif field.default is msgspec.NODEFAULT:
            fields.append((field.name, field.type, msgspec.field(default_factory=field.default_factory)))
        else:
            fields.append((field.name, field.type, field.default))
    return msgspec.defstruct(kind.__name__, fields, namespace={"__doc__": kind.__doc__}, forbid_unknown_fields=True)
