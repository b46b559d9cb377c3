"""Shared rules for request bodies."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from millrace.http.text import first_invisible


class RequestBody(BaseModel):
    """A request's body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _visible(value: str) -> str:
    hidden = first_invisible(value)
    if hidden is not None:
        raise ValueError(f"{hidden} can't be seen: write one line of visible characters")
    return value


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), AfterValidator(_visible)
]
"""One line of text for people: 1 to 500 characters, surrounding white space dropped, no invisible ones
(text.py)."""
