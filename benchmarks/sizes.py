"""How much is measured: the full benchmark, the quick one, the tiny one of the tests."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Sizes:
    """Numbers of everything.

    Attributes:
        events: in the log that everybody reads.
        users: in it.
        rounds: runs of each contestant, interleaved.
        rounds_s: no other round is begun when it would end after this, once there are two.
        allowed_s: longest run of one; who needs more is judged by what was done until then.
        contestants: without the slower variants of the peers where False.
        repeats: of what is cheap to repeat.
        pipeline_events: for the pipeline without Kafka with the GRU.
        rates: events/s at which latency is taken.
        rate_s: seconds at each.
        grow_events: events of the logs that grow in one direction; 0: left out.
        grow_users: numbers of users beside the usual one.
        grow_partitions: likewise.
        grow_rings: likewise.
        many_users: of the restart, memory and bytes.
        processes: numbers of workers that share the partitions.
    """

    events: int
    users: int
    rounds: int
    rounds_s: float
    allowed_s: float
    contestants: bool
    repeats: int
    pipeline_events: int
    rates: tuple[int, ...]
    rate_s: float
    grow_events: int
    grow_users: tuple[int, ...]
    grow_partitions: tuple[int, ...]
    grow_rings: tuple[int, ...]
    many_users: int
    processes: tuple[int, ...]


FULL: Final = Sizes(
    events=1_000_000,
    users=100_000,
    rounds=5,
    rounds_s=1_200.0,
    allowed_s=12.0,
    contestants=True,
    repeats=3,
    pipeline_events=100_000,
    rates=(100, 1_000, 5_000, 20_000),
    rate_s=6.0,
    grow_events=400_000,
    grow_users=(10_000,),
    grow_partitions=(16, 64),
    grow_rings=(20, 200),
    many_users=1_000_000,
    processes=(1, 2, 4),
)
QUICK: Final = Sizes(
    events=100_000,
    users=10_000,
    rounds=1,
    rounds_s=60.0,
    allowed_s=3.0,
    contestants=False,
    repeats=1,
    pipeline_events=50_000,
    rates=(1_000,),
    rate_s=3.0,
    grow_events=0,
    grow_users=(),
    grow_partitions=(),
    grow_rings=(),
    many_users=20_000,
    processes=(),
)
