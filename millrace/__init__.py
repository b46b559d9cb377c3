"""The framework: what every service stands on and none of them writes again. docs/framework.md lists its
packages.

It knows nothing of orders or stock: services import it, it imports no service and no schema. The names below
are its public face; they are loaded when they are first used, so that importing a domain does not import
Kafka.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from millrace.application.commands import CommandContext as CommandContext
    from millrace.application.commands import CommandHandler as CommandHandler
    from millrace.application.commands import Committed as Committed
    from millrace.application.commands import IdempotencyKey as IdempotencyKey
    from millrace.application.reactions import On as On
    from millrace.application.reactions import Reactions as Reactions
    from millrace.application.snapshots import Snapshots as Snapshots
    from millrace.application.unit_of_work import UnitOfWork as UnitOfWork
    from millrace.consumer.subscription import Subscription as Subscription
    from millrace.domain.decider import REPEATED as REPEATED
    from millrace.domain.decider import CommandRefused as CommandRefused
    from millrace.domain.decider import Decider as Decider
    from millrace.domain.decider import Repeated as Repeated
    from millrace.domain.errors import MillraceError as MillraceError
    from millrace.domain.events import DomainEvent as DomainEvent
    from millrace.domain.events import EventRegistry as EventRegistry
    from millrace.domain.events import Metadata as Metadata
    from millrace.domain.events import NewEvent as NewEvent
    from millrace.domain.events import RecordedEvent as RecordedEvent
    from millrace.domain.events import UnknownEvent as UnknownEvent
    from millrace.domain.ids import derived_id as derived_id
    from millrace.domain.ids import new_id as new_id
    from millrace.domain.snapshot_codec import SnapshotPolicy as SnapshotPolicy
    from millrace.domain.snapshot_codec import json_codec as json_codec
    from millrace.domain.stream_kind import StreamKind as StreamKind
    from millrace.domain.upcasting import Json as Json
    from millrace.domain.upcasting import Upcaster as Upcaster
    from millrace.kafka.topics import Topic as Topic
    from millrace.migrations import Migrations as Migrations
    from millrace.operations.audit.findings import Finding as Finding
    from millrace.operations.audit.findings import pending as pending
    from millrace.operations.audit.findings import violation as violation
    from millrace.operations.audit.invariants import Invariant as Invariant
    from millrace.operations.audit.invariants import Place as Place
    from millrace.operations.definition import Held as Held
    from millrace.operations.definition import Releases as Releases
    from millrace.postgres.database import Connection as Connection
    from millrace.postgres.database import Pool as Pool
    from millrace.process.http_settings import Port as Port
    from millrace.process.settings import GrpcTarget as GrpcTarget
    from millrace.process.settings import ServiceSettings as ServiceSettings
    from millrace.read_models.model import ReadModel as ReadModel
    from millrace.read_models.reading import ReadModelBuilding as ReadModelBuilding
    from millrace.read_models.row_per_stream import RowPerStream as RowPerStream
    from millrace.read_models.row_per_stream import existing as existing
    from millrace.runtime.worker import Health as Health
    from millrace.runtime.worker import Role as Role
    from millrace.runtime.worker import Worker as Worker
    from millrace.service import Http as Http
    from millrace.service import Runtime as Runtime
    from millrace.service import Service as Service
    from millrace.store import EventStore as EventStore
    from millrace.store import StoreUnverified as StoreUnverified
    from millrace.store import StreamAppend as StreamAppend
    from millrace.store import WrongExpectedVersion as WrongExpectedVersion
    from millrace.store import require_verified as require_verified
    from millrace.telemetry.logging import get_logger as get_logger
    from millrace.telemetry.metrics import Metrics as Metrics

_MODULES = {
    "application.commands": ["CommandContext", "CommandHandler", "Committed", "IdempotencyKey"],
    "application.reactions": ["On", "Reactions"],
    "application.snapshots": ["Snapshots"],
    "application.unit_of_work": ["UnitOfWork"],
    "consumer.subscription": ["Subscription"],
    "domain.decider": ["REPEATED", "CommandRefused", "Decider", "Repeated"],
    "domain.errors": ["MillraceError"],
    "domain.events": [
        "DomainEvent", "EventRegistry", "Metadata", "NewEvent", "RecordedEvent", "UnknownEvent",
    ],
    "domain.ids": ["derived_id", "new_id"],
    "domain.snapshot_codec": ["SnapshotPolicy", "json_codec"],
    "domain.stream_kind": ["StreamKind"],
    "domain.upcasting": ["Json", "Upcaster"],
    "kafka.topics": ["Topic"],
    "migrations": ["Migrations"],
    "operations.audit.findings": ["Finding", "pending", "violation"],
    "operations.audit.invariants": ["Invariant", "Place"],
    "operations.definition": ["Held", "Releases"],
    "postgres.database": ["Connection", "Pool"],
    "process.http_settings": ["Port"],
    "process.settings": ["GrpcTarget", "ServiceSettings"],
    "read_models.model": ["ReadModel"],
    "read_models.reading": ["ReadModelBuilding"],
    "read_models.row_per_stream": ["RowPerStream", "existing"],
    "runtime.worker": ["Health", "Role", "Worker"],
    "service": ["Http", "Runtime", "Service"],
    "store": ["EventStore", "StoreUnverified", "StreamAppend", "WrongExpectedVersion", "require_verified"],
    "telemetry.logging": ["get_logger"],
    "telemetry.metrics": ["Metrics"],
}  # fmt: skip
_HOMES = {name: f"millrace.{module}" for module, names in _MODULES.items() for name in names}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'millrace' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
