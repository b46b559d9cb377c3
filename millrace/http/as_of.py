"""`at_version` and `at_time` of a GET: the resource as it was, folded from its stream."""

import re
from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Depends, Query

from millrace.application.as_of import (
    EXAMPLES,
    AsOf,
    BeforeTheBeginning,
    BeyondTheEnd,
    Extent,
    parse_time,
)
from millrace.domain.events import RecordedEvent
from millrace.http.problems import FieldError, Problem, bad_field
from millrace.http.waiting import MinVersion

# As EXAMPLES write it; for the description, parse_time decides.
_PATTERN = (
    r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    r"([T ]([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?"
    r"(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])?)?$"
)
# In a query string an unencoded + is a space: in a time, it can only have stood before the offset.
_LOST_PLUS = re.compile(r"(T\S*) (\d\d:?\d\d)$")


async def as_of_query(
    read_after: MinVersion,
    at_version: Annotated[
        int | None, Query(ge=1, le=2**31 - 1, description="as it was at this version of its stream")
    ] = None,
    at_time: Annotated[
        str | None,
        Query(
            max_length=64,
            description=f"as it was at this time, with what was recorded until then: {EXAMPLES}",
            json_schema_extra={"pattern": _PATTERN},
        ),
    ] = None,
) -> AsOf | None:
    """The dependency behind AsOfQuery. Raises Problem 422 when more than one is asked for, or the time is
    none."""
    if at_version is None and at_time is None:
        return None
    name = "at_time" if at_version is None else "at_version"
    if at_version is not None and at_time is not None:
        raise bad_field(422, "invalid_request", "at_time", "sent together with at_version", "send one")
    if read_after.min_version is not None:
        raise bad_field(
            422,
            "invalid_request",
            name,
            "sent together with min_version",
            "leave min_version out: an earlier version is there already",
        )
    if at_time is None:
        return AsOf(version=at_version)
    try:
        return AsOf(time=parse_time(_LOST_PLUS.sub(r"\1+\2", at_time)))
    except ValueError:
        raise bad_field(422, "invalid_request", "at_time", "not a time", f"write {EXAMPLES}") from None


AsOfQuery = Annotated[AsOf | None, Depends(as_of_query)]
"""As of which version or time; None: the present."""


def events_until(events: Sequence[RecordedEvent], as_of: AsOf) -> Sequence[RecordedEvent]:
    """Those of a whole stream's events that had happened by then; at least one.

    Raises Problem 422 for a version beyond the end (with `current_version`) and for a time before the first
    event (with `first_recorded_at`).
    """
    try:
        return events[: Extent.of(events, as_of.time).version_at(as_of)]
    except BeyondTheEnd as error:
        raise _refused("beyond_the_end", "at_version", error, current_version=error.last_version) from error
    except BeforeTheBeginning as error:
        raise _refused("before_the_beginning", "at_time", error, first_recorded_at=error.began_at) from error


def _refused(code: str, field: str, error: Exception, **extensions: Any) -> Problem:
    return Problem(422, code, f"{field}: {error}", errors=[FieldError(field, str(error))], **extensions)
