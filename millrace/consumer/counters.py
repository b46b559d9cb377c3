"""What a consumer counts."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """What a consumer has done since its start."""

    batches: int = 0
    applied: int = 0
    duplicates: int = 0
    past: int = 0
    """Events that count as seen because the consumer began later."""
    parked: int = 0
    retries: int = 0
    failed_commits: int = 0
    rebalances: int = 0
    """How often partitions were assigned."""
