"""The root of everything that the framework raises.

    MillraceError
    ├── CommandRefused, IdempotencyKeyReused              a command: the domain's answer
    ├── WrongExpectedVersion, EventIdsReused              an append, for a reason of its own
    ├── AppendTimeout, StoreClosed, StoreRefuses, StoreUnverified, ReadModelBuilding    later, perhaps
    ├── UnknownEvent ── UnknownEventType, UnknownEventVersion, NewerEventVersion    an event of a newer
                                                                                    program
    ├── MalformedEvent, BrokenChain                       an event that no program can read, or a wrong
                                                          declaration
    ├── MalformedRecord, StreamConflict, ForeignRecord    a record that is parked
    ├── StreamMoved, Outdated, Interrupted, ClientFault, NotBegun   a consumer's batch, which is tried again
    ├── NeverApplied, NotDiscarded, NoAnswer              what operators do with parked streams
    ├── MissingRow, NotLoaded                             a read model that its events don't fit, or a wrong
                                                          declaration
    ├── LeadershipLost                                    another process leads
    ├── TopicNotReady, TopicLost, NotAcknowledged, LogWentBack, RecordRefused, VersionGap, StoreBehind,
    CursorLocked
    │                                                     why the relay waits
    ├── BeyondTheEnd, BeforeTheBeginning                  a version or time at which a stream has no state
    ├── Problem, ClientHungUp, TooManyWaiters, TooManyWaitsOfOne, RpcError    an answer at a door
    ├── SettingsError, TlsError, UndeclaredMethod, MigrationError    a process that can't start
    ├── AuthorityDamaged                                  a stack whose certificates can't be made
    ├── ManifestError, BlockError, GenerateError, ProtocolError, NewServiceError, ProjectError
    │                                                     a service.toml, or what is generated from it
    ├── NoServer                                          a test that needs a server which nobody named
    ├── PartMoved, PassingFault, SideEffect, NotCaughtUp, StoreMoved    a rebuild, or a restore, that is tried
                                                                        again or ends
    └── ToolError                                         a command that can't do what was asked
        ├── NotRestorable
        └── ReplayError ── SourceGone, OpenTransaction, NotApplicable, AlreadyLive, RebuildRunning

Some are what Python or a library calls such an error too (ValueError, psycopg.OperationalError), so that who
knows only these does the right thing.
"""


class MillraceError(Exception):
    """Raised by the framework; the subclass says what happened."""
