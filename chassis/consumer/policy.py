"""What a consumer does with events that it can't read or doesn't know: declared, decided before any handler runs."""

from typing import Literal, get_args

from chassis.events import CanarySent, EventRegistry, RecordedEvent, UnknownEvent, UnknownEventType
from chassis.logging import get_logger
from chassis.reactions import BatchFunction

log = get_logger(__name__)

UnknownTypes = Literal["ignore", "park"]
"""What becomes of an event whose type the registry does not know."""


class ReadingPolicy:
    """Which events concern a consumer, and which of them have to be parked because nothing here can read them.

    An event concerns the handler when that names its type (`handles`; one that names none, a plain function, wants to
    see every type). One that concerns it, in a version that `registry` does not know, is parked: a newer program wrote
    it, and one that reads it will be deployed. `unknown_types` says what to do with types that the registry does not
    know at all; without it they are ignored for a handler that names its types, and parked for one that wants all.
    Canaries (chassis/canary) concern nobody, in whatever version.
    """

    def __init__(
        self,
        consumer: str,
        registry: EventRegistry,
        handler: BatchFunction,
        unknown_types: UnknownTypes | None = None,
    ) -> None:
        if unknown_types not in (None, *get_args(UnknownTypes)):
            raise ValueError(f'{consumer}: unknown_types is {unknown_types!r}, expected "ignore" or "park"')
        self.handles: frozenset[str] | None = getattr(handler, "handles", None)
        self._consumer = consumer
        self._registry = registry
        self._unknown_types = unknown_types or ("park" if self.handles is None else "ignore")
        # A topic has a handful of types and versions: each is judged once.
        self._concerns: dict[tuple[str, int], bool] = {}
        self._problems: dict[tuple[str, int], UnknownEvent | None] = {}

    def concerns(self, event: RecordedEvent) -> bool:
        """Whether the handler gets the event."""
        key = event.event_type, event.schema_version
        if key not in self._concerns:
            self._judge(key)
        return self._concerns[key]

    def problem(self, event: RecordedEvent) -> UnknownEvent | None:
        """Why the event has to be parked; None: it is read, or passed over."""
        key = event.event_type, event.schema_version
        if key not in self._problems:
            self._judge(key)
        return self._problems[key]

    def _judge(self, key: tuple[str, int]) -> None:
        event_type, _ = key
        if event_type == CanarySent.event_type:
            self._concerns[key], self._problems[key] = False, None
            return
        unknown = self._registry.unknown(*key)
        if isinstance(unknown, UnknownEventType):
            concerns = self._unknown_types == "park"
        else:
            concerns = self.handles is None or event_type in self.handles
        self._concerns[key] = concerns
        self._problems[key] = unknown if concerns else None
        if unknown is not None and not concerns:
            log.info("unknown events are passed over", consumer=self._consumer, event_type=event_type)
