import pytest
from aiokafka import TopicPartition

from stream.errors import PartitionError
from stream.fetching import MicroBatch
from stream.inbox import Inbox
from stream.records import Records, Row

TP = TopicPartition("events", 0)


def batch(start, end, count=1):
    records = Records.of(Row(start + n, 0, b"", b"") for n in range(count))
    return MicroBatch(TP, records, start, end)


@pytest.fixture
def inbox():
    made = Inbox("events-0", batch_size=4)
    made.open(10)
    return made


def test_what_is_taken_continues_what_was(inbox):
    assert not inbox.offer(batch(0, 10))
    assert not inbox.offer(batch(11, 12))
    assert inbox.offer(batch(10, 12))
    assert inbox.offer(batch(12, 20))
    assert inbox.position == 20


def test_there_is_room_until_so_many_records_wait(inbox):
    inbox.offer(batch(10, 13, count=3))
    assert inbox.has_room
    inbox.offer(batch(13, 17, count=4))
    assert not inbox.has_room


def test_what_waits_is_taken_together_up_to_the_size_of_a_batch(inbox):
    batches = [batch(10, 11), batch(11, 12), batch(12, 15, count=3), batch(15, 16)]
    for number, each in enumerate(batches):
        each.messages.append(number)
        assert inbox.offer(each)
    for each in batches[:3]:
        inbox.deliver(each)
    assert inbox.expected == 15

    taken = inbox.take()
    assert (taken.start, taken.end, taken.messages) == (10, 12, [0, 1])
    assert [row.offset for row in taken.records] == [10, 11]
    assert not inbox.has_room
    inbox.done()
    assert inbox.take() is batches[2]
    assert inbox.has_room
    assert inbox.take() is None
    inbox.done()
    inbox.deliver(batches[3])
    assert inbox.take() is batches[3]
    assert not inbox.empty
    inbox.done()
    assert inbox.empty


def test_a_stretch_without_records_takes_no_room(inbox):
    assert inbox.offer(batch(10, 30, count=0))
    assert (inbox.position, inbox.empty) == (30, True)


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
    with pytest.raises(PartitionError, match="events-0: offsets 10 to 12 were delivered out of"):
        inbox.deliver(batch(10, 12))
