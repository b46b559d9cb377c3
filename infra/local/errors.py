"""What can go wrong with the local stack, said in words that an operator can act on."""

from pathlib import Path

from millrace.domain.errors import MillraceError


class StackError(MillraceError):
    """The stack can't do what was asked. The message is one line; `details` may add the evidence."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class ComponentError(StackError):
    """One component failed. Names it, says why and shows the end of its log and where the log is."""

    def __init__(self, *, component: str, why: str, log: Path, tail: str = "") -> None:
        lines = [f"last lines of {log}:", *(f"  {line}" for line in tail.splitlines())] if tail else []
        super().__init__(f"{component}: {why} (log: {log})", "\n".join(lines))
        self.component = component


class PortTaken(StackError):
    """A port that a component wants to listen on belongs to another process."""

    def __init__(self, *, component: str, port: int, setting: str, holder: str | None) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(
            f"{component}: port {port} is taken{by}. Free it, or choose another with {setting}=<port>,"
            " or move every port with MILLRACE_PORT_OFFSET=<number>."
        )
        self.component = component
        self.port = port


class NotReady(Exception):
    """A component runs but does not do its work yet; the text says what is missing."""
