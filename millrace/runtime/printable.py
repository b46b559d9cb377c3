"""Text as a terminal can show it, whatever is in it. Imports next to nothing: a health check does it too."""

import re
from collections.abc import Mapping
from typing import Any

# C0 and C1 (ESC and CSI among them), DEL, zero-width characters, marks and overrides of the writing
# direction, line and paragraph separators, the byte order mark, lone surrogates. Newline and tab are in it:
# `text` lets them through.
_HIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")
_HIDDEN_IN_TEXT = re.compile(_HIDDEN.pattern.replace("\x00-\x1f", "\x00-\x08\x0b-\x1f"))


def line(text: str) -> str:
    """`text` as it can be shown in a line: nothing of it moves the cursor or begins another line."""
    return _HIDDEN.sub(_escaped, text)


def lines(text: str) -> str:
    """The same for text of several lines: newlines and tabs stay."""
    return _HIDDEN_IN_TEXT.sub(_escaped, text)


def tidy(document: Any) -> Any:
    """A JSON document, with `line` applied to each string in it, names of fields included. For tables and
    texts."""
    if isinstance(document, str):
        return line(document)
    if isinstance(document, Mapping):
        return {tidy(name): tidy(value) for name, value in document.items()}
    if isinstance(document, list | tuple):
        return [tidy(value) for value in document]
    return document


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"
