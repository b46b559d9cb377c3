"""Idempotency-Key (IETF draft-ietf-httpapi-idempotency-key-header): its syntax, scope and fingerprint."""

import hashlib
import re

from pydantic import BaseModel
from starlette.datastructures import Headers

from millrace.http.problems import bad_field

HEADER = "Idempotency-Key"
PATTERN = r'^([!#-~][!-~]{0,254}|"([!#-\[\]-~]|\\["\\]){1,255}")$'
"""Of the header: a bare key, or a quoted one."""

_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_QUOTED = re.compile(r'"((?:[^"\\]|\\["\\])*)"')
_REMEDY = "send 1 to 255 visible ASCII characters, for example a UUID"


def parse_key(headers: Headers) -> str | None:
    """The key: bare, or quoted as a structured-field string; None without one. 400 when malformed."""
    values = headers.getlist(HEADER)
    if not values:
        return None
    quoted = _QUOTED.fullmatch(values[0])
    key = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else values[0]
    if len(values) > 1 or not _VISIBLE.fullmatch(key) or (quoted is None and key.startswith('"')):
        raise bad_field(400, "malformed_idempotency_key", HEADER, "malformed", _REMEDY)
    return key


def require_key(key: str | None) -> str:
    """The key; 400 when the request has none."""
    if key is None:
        raise bad_field(400, "idempotency_key_required", HEADER, "is required", _REMEDY)
    return key


def fingerprint(path: str, body: BaseModel | None) -> str:
    """What makes two requests the same: the path and the body as it was understood (not its spelling).

    What was left out doesn't count, so that a repeat is still the same request after a deployment that added
    an optional field to the body.
    """
    digest = hashlib.sha256(path.encode())
    digest.update(b"\n")
    if body is not None:
        digest.update(body.__pydantic_serializer__.to_json(body, exclude_none=True))
    return digest.hexdigest()
