"""An event as a Kafka record and back: CloudEvents 1.0 in Kafka's binary mode.

The value is the event's JSON data, everything else travels in UTF-8 headers; the key is the stream id
(https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md). There are
two formats: docs/relay.md, "The record".
"""

from millrace.kafka.record.fields import MalformedRecord
from millrace.kafka.record.format import (
    CONTENT_TYPE,
    FORMAT_1,
    FORMAT_2,
    RecordFormat,
    fields_lacking,
    record_format,
    type_name,
)
from millrace.kafka.record.model import ConsumedRecord, Delivered, Headers, ReadEvent
from millrace.kafka.record.reading import from_record, read_event, record_source
from millrace.kafka.record.writing import to_record

__all__ = [
    "CONTENT_TYPE",
    "FORMAT_1",
    "FORMAT_2",
    "ConsumedRecord",
    "Delivered",
    "Headers",
    "MalformedRecord",
    "ReadEvent",
    "RecordFormat",
    "fields_lacking",
    "from_record",
    "read_event",
    "record_format",
    "record_source",
    "to_record",
    "type_name",
]
