"""Reading the documentation as data: its pages, its commands, its links."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
)

_SHELL_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^]]*]\(([^)#\s]+)[^)]*\)")


def commands(page: Path) -> list[list[str]]:
    """Each command of the page's shell blocks, as words; comments dropped, continued lines joined."""
    return commands_in(page.read_text())


def section(page: Path, heading: str) -> str:
    """The text under a heading of the second level, up to the next one."""
    _, _, behind = page.read_text().partition(f"\n## {heading}\n")
    return behind.partition("\n## ")[0]


def commands_in(text: str) -> list[list[str]]:
    """The same of a part of a page."""
    blocks = _SHELL_BLOCK.findall(text)
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def python_blocks(page: Path) -> list[str]:
    """The page's Python, block by block."""
    return _PYTHON_BLOCK.findall(page.read_text())


def links(page: Path) -> list[str]:
    """The files that the page links to, as it writes them."""
    return [target for target in _LINK.findall(page.read_text()) if "://" not in target]
