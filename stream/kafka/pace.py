"""How long the broker gathers before it answers a fetch.

An answer to every few events costs broker and worker the same as one to a hundred: a request, a
micro-batch of each partition, a message to send. On a busy machine the events then wait for these,
far longer than they would have waited to be gathered. So as soon as events come often enough for a
short wait to bring several, the broker is asked to wait; where they come rarely, each is answered
at once.
"""

import time
from collections.abc import Callable
from typing import Final

from aiokafka import AIOKafkaConsumer

from stream.kafka.aiokafka_private import set_gathering

FETCH_WAIT_MS: Final = 50
"""How long the broker may hold an empty fetch back. One fetch is on its way at a time, so this is
also how long a busy partition may wait for quiet ones."""
GATHER_MS: Final = 15
"""At 1,000 events/s, 10, 20 and 30 ms were seen to be no better."""
GATHER_BYTES: Final = 64 << 10
"""What is enough to be answered at once: a backlog never waits."""
_OFTEN_PER_S: Final = 400.0
_WINDOW_S: Final = 0.5


class Pace:
    """Watches how often records come, and tells aiokafka's fetcher what to ask for."""

    def __init__(
        self, consumer: AIOKafkaConsumer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin as for records that come rarely."""
        self._consumer = consumer
        self._clock = clock
        self._since = clock()
        self._count = 0

    def note(self, records: int) -> None:
        """Take note of what a fetch brought; on the consumer's event loop."""
        self._count += records
        now = self._clock()
        seconds = now - self._since
        if seconds < _WINDOW_S:
            return
        often = self._count / seconds >= _OFTEN_PER_S
        self._since, self._count = now, 0
        if often:
            set_gathering(self._consumer, GATHER_BYTES, GATHER_MS)
        else:
            set_gathering(self._consumer, 1, FETCH_WAIT_MS)
