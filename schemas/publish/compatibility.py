"""What changed between two JSON Schemas of one event version, and whether that is allowed once it is
published.

Events need both directions: today's class reads every event that was ever stored (so nothing may be
tightened), and programs that were deployed with the published schema read what today's class writes (so
nothing may be loosened either: an enum with a new value parks the streams of an older consumer). What is left
is a new field that may be absent, where the published schema ignores unknown fields, and texts for people.
Whatever this module doesn't know counts as incompatible.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]

_TEXTS = frozenset(
    {"title", "description", "examples", "deprecated", "$schema", "$id", "$comment", "x-digest"}
)
_LOWER = frozenset({"minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"})
_UPPER = frozenset({"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"})
_NESTED = frozenset({"properties", "required", "items", "anyOf", "type", "enum", "$defs"})

THE_EVENT = "the event itself"
_STORED = "events that are stored already may break it"
_DEPLOYED = "programs that know only what is published would refuse it"
_OTHERWISE = "events that are stored already would mean something else"


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `field` is a path such as lines[].quantity."""

    field: str
    problem: str
    compatible: bool = False


def changes(published: Schema, current: Schema) -> list[Change]:
    """What is different in `current`, field by field; texts for people don't count."""
    return list(_compare("", _inlined(published, published), _inlined(current, current)))


def _inlined(schema: Any, root: Schema, inside: tuple[str, ...] = ()) -> Any:
    """`schema` without references and texts, so that a nested model may be renamed or moved."""
    if isinstance(schema, list):
        return [_inlined(item, root, inside) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in inside:
            raise ValueError(f"{name} contains itself: events are not recursive")
        beside = {key: value for key, value in schema.items() if key != "$ref"}
        return _inlined({**root["$defs"][name], **beside}, root, (*inside, name))
    plain = {key: value for key, value in schema.items() if key not in _TEXTS and key != "$defs"}
    if "properties" in plain:  # whose keys are names of fields, such as "title"
        fields = {name: _inlined(field, root, inside) for name, field in plain["properties"].items()}
        rest = {key: value for key, value in plain.items() if key != "properties"}
        return {**{key: _inlined(value, root, inside) for key, value in rest.items()}, "properties": fields}
    return {key: _inlined(value, root, inside) for key, value in plain.items()}


def _compare(path: str, old: Schema, new: Schema) -> Iterator[Change]:
    field = path or THE_EVENT
    if _kind(old) != _kind(new):
        yield Change(field, f"type changed from {_kind(old)} to {_kind(new)}")
        return
    yield from _compare_fields(path, old, new)
    if "enum" in old:
        yield from _compare_enum(field, old["enum"], new["enum"])
    if isinstance(old.get("items"), Mapping):
        yield from _compare(f"{path}[]", old["items"], new["items"])
    for before, after in zip(old.get("anyOf", ()), new.get("anyOf", ()), strict=True):
        yield from _compare(path, before, after)
    for keyword in sorted((old.keys() | new.keys()) - _NESTED):
        if old.get(keyword, _ABSENT) != new.get(keyword, _ABSENT):
            yield Change(field, _changed(keyword, old.get(keyword, _ABSENT), new.get(keyword, _ABSENT)))


def _compare_fields(path: str, old: Schema, new: Schema) -> Iterator[Change]:
    before, after = old.get("properties", {}), new.get("properties", {})
    was_required, is_required = set(old.get("required", ())), set(new.get("required", ()))
    closed = old.get("additionalProperties") is False
    for name in before | after:
        field = f"{path}.{name}" if path else name
        if name not in after:
            yield Change(field, "is removed")
        elif name not in before and name in is_required:
            yield Change(field, "is new and required: events that are stored already don't have it")
        elif name not in before and closed:
            yield Change(field, f"is new where unknown fields are forbidden: {_DEPLOYED}")
        elif name not in before:
            yield Change(field, "is a new optional field", compatible=True)
        else:
            yield from _compare_field(
                field, before[name], after[name], name in was_required, name in is_required
            )


def _compare_field(path: str, old: Schema, new: Schema, was: bool, now: bool) -> Iterator[Change]:
    """`was` and `now`: whether the field is required."""
    if now and not was:
        yield Change(path, "is required now: events that are stored already may not have it")
    if was and not now:
        yield Change(path, f"may be left out now: {_DEPLOYED}")
    if was != now:  # then the default came or went with it
        old, new = ({key: value for key, value in one.items() if key != "default"} for one in (old, new))
    yield from _compare(path, old, new)


def _compare_enum(field: str, old: list[Any], new: list[Any]) -> Iterator[Change]:
    if gone := [value for value in old if value not in new]:
        yield Change(field, f"no longer allows {_list(gone)}: {_STORED}")
    if added := [value for value in new if value not in old]:
        yield Change(field, f"allows {_list(added)} too: {_DEPLOYED}")


def _changed(keyword: str, old: Any, new: Any) -> str:
    said = f"{keyword} changed from {_show(old)} to {_show(new)}"
    if keyword == "default":
        return f"{said}: {_OTHERWISE}"
    if keyword in _LOWER | _UPPER:
        tightened = old is _ABSENT or (new is not _ABSENT and (new > old) == (keyword in _LOWER))
        return f"{said}: {_STORED if tightened else _DEPLOYED}"
    return said


_ABSENT = object()


def _show(value: Any) -> str:
    return "none" if value is _ABSENT else repr(value)


def _list(values: list[Any]) -> str:
    return ", ".join(map(repr, values))


def _kind(schema: Schema) -> str:
    """The shape of a value in words: what may not change at all."""
    if "anyOf" in schema:
        return " or ".join(_kind(one) for one in schema["anyOf"])
    kind = str(schema.get("type", "anything"))
    if isinstance(schema.get("items"), Mapping):
        return f"{kind} of {_kind(schema['items'])}"
    if "enum" in schema:
        return f"{kind} of a fixed set"
    return f"{schema['format']} {kind}" if "format" in schema else kind
