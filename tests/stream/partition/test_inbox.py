import pytest
from aiokafka import TopicPartition

from stream.errors import PartitionError
from stream.kafka.fetching import MicroBatch
from stream.kafka.offsets import Start
from stream.partition.inbox import ROOM, Inbox
from stream.pipeline.records import Records, Row

TP = TopicPartition("events", 0)


def batch(start, end, count=1):
    records = Records.of(Row(start + n, 0, b"", b"") for n in range(count))
    return MicroBatch(TP, records, start, end)


@pytest.fixture
def inbox():
    made = Inbox("events-0")
    made.open(Start(10))
    return made


def test_what_is_taken_continues_what_was(inbox):
    assert not inbox.offer(batch(0, 10))
    assert not inbox.offer(batch(11, 12))
    assert inbox.offer(batch(10, 12))
    assert inbox.offer(batch(12, 20))
    assert inbox.position == 20


def test_there_is_room_for_so_many_until_they_are_done(inbox):
    batches = [batch(10 + n, 11 + n) for n in range(ROOM)]
    for each in batches:
        assert inbox.has_room
        inbox.offer(each)
    assert not inbox.has_room
    assert inbox.expected == 10
    inbox.deliver(batches[0])
    assert inbox.expected == 11
    assert inbox.take() is batches[0]
    assert not inbox.has_room
    inbox.done()
    assert inbox.has_room
    assert inbox.take() is None


def test_a_stretch_without_records_takes_no_room(inbox):
    assert inbox.offer(batch(10, 30, count=0))
    assert (inbox.position, inbox.held) == (30, 0)


def test_what_was_lost_is_of_the_next_batch_or_taken_once(inbox):
    inbox.open(Start(10, lost=3))
    assert inbox.offer(MicroBatch(TP, Records.of(()), 10, 14, lost=4))
    following = batch(14, 15)
    assert inbox.offer(following)
    assert following.lost == 7
    assert inbox.done_to is None
    inbox.deliver(following)
    inbox.take()
    inbox.done()

    assert inbox.offer(MicroBatch(TP, Records.of(()), 15, 17, lost=2))
    assert (inbox.done_to, inbox.take_lost(), inbox.take_lost()) == (17, 2, 0)


def test_closed_it_takes_nothing_and_ignores_what_still_comes(inbox):
    late = batch(10, 12)
    inbox.offer(late)
    inbox.close()
    assert not inbox.has_room
    inbox.deliver(late)
    assert inbox.take() is None
    assert not inbox.offer(batch(12, 13))


def test_a_batch_out_of_turn_is_an_error(inbox):
    inbox.offer(batch(10, 12))
    with pytest.raises(
        PartitionError, match=r"events-0: offsets 10 to 12 were .* please report it"
    ):
        inbox.deliver(batch(10, 12))
