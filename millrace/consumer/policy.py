"""What a consumer does with events that it can't read or doesn't know: declared, decided before any handler
runs."""

from typing import Literal, get_args

from millrace.application.reactions import BatchFunction
from millrace.domain.events import CanarySent, EventRegistry, RecordedEvent, UnknownEvent, UnknownEventType
from millrace.telemetry.logging import get_logger

log = get_logger(__name__)

UnknownTypes = Literal["ignore", "park"]
"""What becomes of an event whose type the registry does not know."""

_Kind = tuple[EventRegistry, str, int]  # of its topic; type and schema version


class ReadingPolicy:
    """Which events concern a consumer, and which of them have to be parked because nothing here can read
    them.

    An event concerns the handler when that names its type (`handles`; one that names none, a plain function,
    wants to see every type). What is known of an event is what the registry of its topic knows. One that
    concerns the handler, in a version that is not known, is parked: a newer program wrote it, and one that
    reads it will be deployed. `unknown_types` says what to do with types that are not known at all; without
    it they are ignored for a handler that names its types, and parked for one that wants all. Canaries
    (millrace/canary) concern nobody, in whatever version.
    """

    def __init__(
        self,
        consumer: str,
        handler: BatchFunction,
        unknown_types: UnknownTypes | None = None,
    ) -> None:
        if unknown_types not in (None, *get_args(UnknownTypes)):
            raise ValueError(f'{consumer}: unknown_types is {unknown_types!r}, expected "ignore" or "park"')
        self.handles: frozenset[str] | None = getattr(handler, "handles", None)
        self._consumer = consumer
        self._unknown_types = unknown_types or ("park" if self.handles is None else "ignore")
        # A topic has a handful of types and versions: each is judged once.
        self._concerns: dict[_Kind, bool] = {}
        self._problems: dict[_Kind, UnknownEvent | None] = {}
        self._reads: dict[_Kind, bool] = {}  # it concerns the handler and has no problem

    def concerns(self, event: RecordedEvent) -> bool:
        """Whether the handler gets the event."""
        key = event.registry, event.event_type, event.schema_version
        if key not in self._concerns:
            self._judge(key)
        return self._concerns[key]

    def problem(self, event: RecordedEvent) -> UnknownEvent | None:
        """Why the event has to be parked; None: it is read, or passed over."""
        key = event.registry, event.event_type, event.schema_version
        if key not in self._problems:
            self._judge(key)
        return self._problems[key]

    def names_another_stream(self, event: RecordedEvent) -> str | None:
        """Why the data of an event that the handler gets belong to another stream than the record says; None:
        they don't.

        Only where the registry declares which stream an event belongs to. Data that can't be decoded name
        none: the handler's attempt says what is wrong with them.
        """
        key = event.registry, event.event_type, event.schema_version
        if key not in self._reads:
            self._judge(key)
        stream_of = event.registry.stream_of
        if stream_of is None or not self._reads[key]:
            return None
        try:
            named = stream_of(event.event)
        except ValueError:  # UnknownEvent, MalformedEvent
            return None
        if named in (None, event.stream_id):
            return None
        return f"its data are of {named}, it says that it is of {event.stream_id}"

    def _judge(self, key: _Kind) -> None:
        registry, event_type, schema_version = key
        if event_type == CanarySent.event_type:
            self._concerns[key], self._problems[key], self._reads[key] = False, None, False
            return
        unknown = registry.unknown(event_type, schema_version)
        if isinstance(unknown, UnknownEventType):
            concerns = self._unknown_types == "park"
        else:
            concerns = self.handles is None or event_type in self.handles
        self._concerns[key] = concerns
        self._problems[key] = unknown if concerns else None
        self._reads[key] = concerns and unknown is None
        if unknown is not None and not concerns:
            log.info("unknown events are passed over", consumer=self._consumer, event_type=event_type)
