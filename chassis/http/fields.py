"""Shared rules for request bodies."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints


class RequestBody(BaseModel):
    """A request's body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _printable(value: str) -> str:
    # Control characters have no place in names and reasons; NUL can't be stored in a Postgres text either.
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in value):
        raise ValueError("control characters are not allowed")
    return value


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(_printable)
]
"""One line of text for people: 1 to 500 characters, surrounding white space dropped, no control characters."""
