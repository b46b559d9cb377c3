"""ETag and If-Match (RFC 9110, 13.1.1): the entity tag of a resource is its stream's version, quoted."""

import re

from starlette.datastructures import Headers

from millrace.http.problems import bad_field

TAG_PATTERN = r'^(\*|"[1-9][0-9]{0,8}")$'
"""Of If-Match."""

_TAG = re.compile(r'"([1-9][0-9]{0,8})"')


def etag(version: int) -> str:
    """The entity tag of a stream version: 3 -> "3" (with the quotes)."""
    return f'"{version}"'


def parse_if_match(headers: Headers) -> int | None:
    """The version that If-Match demands; None when it demands nothing (absent, or *). 400 when malformed, or
    sent twice."""
    values = headers.getlist("if-match")
    if values in ([], ["*"]):
        return None
    tag = _TAG.fullmatch(values[0])
    if tag is None or len(values) > 1:
        raise bad_field(
            400, "malformed_if_match", "If-Match", "not an ETag", 'send one ETag as it was answered: "3"'
        )
    return int(tag[1])
