"""A timestamp that the broker refuses is told as what it is: a wrong clock."""

import re
import time
from datetime import UTC, datetime, timedelta

from aiokafka.errors import InvalidTimestampError

from stream.config.secure_settings import KafkaSettings
from stream.kafka.clock import clock_is_wrong
from stream.kafka.diagnosis import denied, why


def test_the_time_of_this_machine_is_told():
    said = clock_is_wrong("events-3")
    (shown,) = re.findall(r"says (\S+ \S+) UTC", said)
    told = datetime.strptime(shown, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)
    assert said.startswith("events-3: the broker refuses")
    assert "\n" not in said


def test_how_far_the_clock_is_off_is_told():
    now = time.time_ns() // 1_000_000
    for apart, shown in (
        (3 * 86_400_000, "3.0 days ahead of the broker's"),
        (5 * 3_600_000, "5.0 hours ahead of the broker's"),
        (-90 * 60_000, "90.0 minutes behind the broker's"),
    ):
        said = clock_is_wrong("events-3", now - apart)
        assert shown in said
        assert "which says " in said


async def test_every_client_says_so():
    settings = KafkaSettings()
    for said in (
        denied(InvalidTimestampError(), settings),
        await why(settings, InvalidTimestampError()),
    ):
        assert said is not None
        assert said.startswith("the broker refuses the timestamp of a record")
        for known in ("message.timestamp.after.max.ms", "message.timestamp.before.max.ms", "NTP"):
            assert known in said
