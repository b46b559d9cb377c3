"""Ids and keys of other people as they are shown: a topic's key may have megabytes, and a line is to be
read."""

import re
from collections.abc import Iterable

LONGEST = 120
"""Characters of an id that are shown in full: every id of ours is shorter."""
_TAIL = 24
LINE = 600
"""Characters of a line that quotes others, of a finding for example."""
_LONG_WORD = re.compile(rf"\S{{{LONGEST + 1},}}")


def shortened(text: str, longest: int = LONGEST) -> str:
    """`text`, or its beginning and its end with … between them: `longest` characters in all."""
    if len(text) <= longest:
        return text
    return f"{text[: longest - _TAIL - 1]}…{text[-_TAIL:]}"


def readable(line: str, ids: Iterable[str] = ()) -> str:
    """A line for people, in which each of `ids`, and each long word, is shortened."""
    for one in sorted({one for one in ids if len(one) > LONGEST}, key=len, reverse=True):
        line = line.replace(one, shortened(one))
    return _LONG_WORD.sub(lambda word: shortened(word.group()), line)
