"""Answers, serialised once: models by their own serializer, everything else by orjson."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response
from pydantic import BaseModel

from millrace.http.preconditions import etag


def answer(
    content: BaseModel | Mapping[str, Any],
    *,
    status: int = 200,
    version: int | None = None,
    location: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A JSON response; `version` becomes its ETag.

    The route declares its model with `response_model=` for the description only: a Response that a route
    returns is not validated or serialised again.
    """
    body = (
        content.__pydantic_serializer__.to_json(content)
        if isinstance(content, BaseModel)
        else orjson.dumps(content)
    )
    told = dict(headers) if headers else {}
    if version is not None:
        told["ETag"] = etag(version)
    if location is not None:
        told["Location"] = location
    return Response(body, status, told, media_type="application/json")
