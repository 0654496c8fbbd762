"""What a broker's refusal of a record's timestamp says: the clock of this machine is wrong.

All that is sent is stamped with the clock of the machine that sends it. A topic takes timestamps up
to `message.timestamp.after.max.ms` ahead of the broker's clock, one hour by default since Kafka 4
(KIP-1030), and no older ones than `message.timestamp.before.max.ms`, by default of any age.
"""

import time
from datetime import UTC, datetime


def clock_is_wrong(where: str = "") -> str:
    """Return one sentence for a timestamp that was refused, with the time of this machine.

    The broker's own time is not known here: it tells its bounds from version 8 of the response on
    (KIP-467), and aiokafka 0.14 asks for version 7.

    Args:
        where: topic and partition, empty where the client does not tell them.
    """
    now = datetime.fromtimestamp(time.time(), UTC).strftime("%Y-%m-%d %H:%M:%S")
    return (
        f"{where + ': ' if where else ''}the broker refuses the timestamp of a record: the clock of"
        f" this machine says {now} UTC, and that is further ahead of the broker's clock than"
        " message.timestamp.after.max.ms of the topic allows (1 h by default since Kafka 4), or"
        " further behind it than message.timestamp.before.max.ms; synchronise the clock of this"
        " machine, or the broker's, with NTP and start again"
    )
