"""Request bodies as JSON: what can't be one is refused with what is wrong about it."""

import json
from typing import Any, NoReturn

from fastapi import Request

from millrace.http.problems import malformed_json


class JsonRequest(Request):
    """A request whose body is parsed by `parse`."""

    async def json(self) -> Any:
        """The body. Raises Problem 400, or JSONDecodeError, which has the position."""
        return parse(await self.body())


def parse(body: bytes) -> Any:
    """The value. Raises Problem 400 for what no JSON of ours is, JSONDecodeError for what is none at all."""
    try:
        return json.loads(body.decode("utf-8-sig"), object_pairs_hook=_object, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise malformed_json(f"not UTF-8 at byte {error.start}", "send it in UTF-8") from None
    except RecursionError:
        raise malformed_json("arrays or objects are nested too deeply", "nest them less deeply") from None
    except json.JSONDecodeError:
        raise
    except ValueError:  # Python's bound on the digits of an integer
        raise malformed_json("a number has too many digits", "send a smaller number") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        # Parsers differ in which one they take: a proxy may have checked the other.
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise malformed_json(f"the member {twice!r} comes more than once", "send it once")
    return members


def _constant(name: str) -> NoReturn:
    raise malformed_json(f"{name} is no JSON", "send a number, or null")
