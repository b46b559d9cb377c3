"""The stored metadata of an event, as the header `millrace_metadata` brings them."""

from typing import Any

import orjson

from millrace.domain.events import Metadata

HEADER = "millrace_metadata"


def parse_metadata(raw: bytes) -> Metadata:
    """The metadata that the header holds.

    Fields of newer writers are passed over here and stay in the bytes. Raises ValueError, which says what is
    wrong: a consumer must be able to store and to hand on whatever it takes.
    """
    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is no JSON: {error}: {raw!r}") from error
    if type(found) is not dict:
        raise ValueError(f"is no JSON object: {raw!r}")
    get = found.get
    correlation, causation, actor = get("correlation_id"), get("causation_id"), get("actor")
    trace, fingerprint = get("traceparent"), get("idempotency_fingerprint")
    if not (
        type(correlation) is str
        and correlation
        and (causation is None or type(causation) is str)
        and (actor is None or type(actor) is str)
        and (trace is None or type(trace) is str)
        and (fingerprint is None or type(fingerprint) is str)
    ):
        raise ValueError(f"{_wrong_field(found)}: {raw!r}")
    if b"\\u0000" in raw and _holds_nul(found):  # the only way for JSON to spell it
        raise ValueError(f"holds a NUL character: {raw!r}")  # no Postgres text can hold it
    return Metadata(correlation, causation, actor, trace, fingerprint)


def plain_metadata(raw: bytes) -> dict[str, str]:
    """The fields of metadata that hold nothing but texts, as every writer so far makes them: in half the
    time.

    Raises ValueError, KeyError, TypeError or AttributeError for what `parse_metadata` has to look at.
    """
    found = orjson.loads(raw)
    for value in found.values():
        if type(value) is not str:
            raise TypeError("needs care")
    if not found["correlation_id"] or (raw.find(b"\\") >= 0 and b"\\u0000" in raw):
        raise ValueError("needs care")
    return found  # type: ignore[no-any-return]


def _holds_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(_holds_nul(key) or _holds_nul(one) for key, one in value.items())
    return isinstance(value, list) and any(map(_holds_nul, value))


def _wrong_field(found: dict[str, Any]) -> str:
    if not isinstance(found.get("correlation_id"), str) or not found["correlation_id"]:
        return "correlation_id is missing or no text"
    name = next(name for name in Metadata.__slots__ if not isinstance(found.get(name), str | None))
    return f"{name} is no text"
