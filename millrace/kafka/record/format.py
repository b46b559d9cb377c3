"""The formats of a record: which headers it has, and how type and schema are written in them."""

from collections.abc import Mapping
from typing import NamedTuple

from millrace.kafka.record.fields import MalformedRecord, optional_text
from millrace.kafka.record.model import ConsumedRecord

CONTENT_TYPE = "application/json"


class RecordFormat(NamedTuple):
    """What the relay writes.

    Format 2 carries the whole event. Format 1 is written only during a rolling upgrade, while consumers that
    can't read format 2 still run. `type_prefix` and `schema_base` are used by format 2.
    """

    version: int = 2
    type_prefix: str = "dev.millrace"
    """A reversed domain name: OrderCreated travels as dev.millrace.OrderCreated."""
    schema_base: str = "https://millrace.dev/schemas"
    """An absolute URI, without a slash at its end; behind it comes the `$id` of the published schema."""

    def type_of(self, event_type: str) -> str:
        """The value of `ce_type`."""
        return event_type if self.version == 1 else f"{self.type_prefix}.{event_type}"

    def schema_of(self, event_type: str, schema_version: int) -> str:
        """The value of `ce_dataschema`."""
        schema = f"{event_type}/{schema_version}"
        return schema if self.version == 1 else f"{self.schema_base}/{schema}"


FORMAT_1 = RecordFormat(version=1)
FORMAT_2 = RecordFormat()

_LACKING: dict[int, tuple[str, ...]] = {1: ("actor", "idempotency_fingerprint", "traceparent"), 2: ()}


def record_format(record: ConsumedRecord) -> int:
    """The number of the record's format: 1 when it has no `millrace_format`.

    Raises MalformedRecord for a format that this program does not know.
    """
    return format_in(dict(record.headers))


def fields_lacking(format: int) -> tuple[str, ...]:
    """The fields of an event's metadata that a record of this format does not carry.

    The traceparent of format 1 is that of the sending span when the event was traced; the event's own is then
    lost.
    """
    return _LACKING[format]


def type_name(ce_type: str) -> str:
    """The event type in a `ce_type` of any format: what stands behind the last dot."""
    return ce_type.rpartition(".")[2]


def format_in(headers: Mapping[str, bytes]) -> int:
    """As `record_format`, of headers."""
    value = optional_text(headers, "millrace_format")
    if value is None:
        return 1
    if value != "2":
        raise MalformedRecord(
            "millrace_format",
            f"is {value!r}, this program reads 2 and records without it: deploy a newer one",
        )
    return 2
