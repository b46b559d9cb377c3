"""Shared rules for request bodies."""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from millrace.http.text import first_invisible

_UNKNOWN_TO_NAME: Final = 20
"""Unknown fields of one object that are named. More are counted: to name ten thousand takes a second."""


class RequestBody(BaseModel):
    """A request's body: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _names_few_unknown_fields(cls, data: Any) -> Any:
        if isinstance(data, dict) and len(data) > len(cls.model_fields) + _UNKNOWN_TO_NAME:
            known = len(cls.model_fields)
            message = "has {count} fields and may have {known}"
            raise PydanticCustomError("too_many_fields", message, {"count": len(data), "known": known})
        return data


def _visible(value: str) -> str:
    hidden = first_invisible(value)
    if hidden is not None:
        raise ValueError(f"{hidden} can't be seen: write one line of visible characters")
    return value


Text = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=500),
    AfterValidator(_visible),
    Field(json_schema_extra={"pattern": r"\S"}),  # not white space only
]
"""One line of text for people: 1 to 500 characters, surrounding white space dropped, no invisible ones
(text.py)."""
