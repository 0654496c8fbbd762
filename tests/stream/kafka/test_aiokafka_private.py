"""Each private attribute of aiokafka that is used, tried with the real library and a broker."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import ConsumerStoppedError, KafkaError, ProducerFenced
from aiokafka.protocol.fetch import FetchRequest

from stream.kafka import aiokafka_private as private
from stream.kafka.clients import stop_producer
from stream.kafka.sending import REFUSED
from tests.patience import PATIENCE_S
from tests.private import accesses, tried
from tests.stream.kafka_tools import consuming, produce, unique

pytestmark = pytest.mark.kafka


def transactional(kafka, transactional_id):
    return AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, transactional_id=transactional_id
    )


async def fetched(consumer, tp):
    await asyncio.wait({private.fetch_waiter(consumer)}, timeout=PATIENCE_S)
    return private.take_fetched(consumer, tp)


def test_every_function_has_its_test():
    assert tried(private.__all__, Path(__file__)) == set(private.__all__) - {"Fetched"}


def test_no_other_module_uses_what_is_private_in_a_library():
    assert {path.name for path in accesses()} == {"aiokafka_private.py", "faust_private.py"}


async def test_client_of_a_consumer_answers(kafka, tp):
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        client = private.client_of(consumer)
        assert isinstance(client, AIOKafkaClient)
        await client.force_metadata_update()
        assert client.cluster.partitions_for_topic(tp.topic) == {0}


async def test_subscription_of_a_consumer_tells_positions(kafka, tp):
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        found = private.subscription_of(consumer)
        assert not found.reassignment_in_progress
        assignment = found.subscription.assignment
        assert set(assignment.tps) == {tp}
        assert assignment.state_value(tp).has_valid_position
        consumer.assign([tp])
        assert found.subscription.assignment is not assignment


async def test_check_usable_refuses_a_closed_consumer(kafka, tp):
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        private.check_usable(consumer)
    with pytest.raises(ConsumerStoppedError):
        private.check_usable(consumer)


async def test_leave_group_makes_room_for_another_member_at_once(kafka, tp):
    group = unique("group")
    options = {
        "bootstrap_servers": kafka.bootstrap_servers,
        "group_id": group,
        "session_timeout_ms": 1_000 * 10 * int(PATIENCE_S),
    }
    first = AIOKafkaConsumer(tp.topic, group_instance_id="one", **options)
    await first.start()
    await private.leave_group(first)
    await first.stop()
    # Without it the broker would keep the partition for the rest of the first one's session.
    async with (
        asyncio.timeout(PATIENCE_S),
        AIOKafkaConsumer(tp.topic, group_instance_id="two", **options) as second,
    ):
        assert second.assignment() == {tp}


async def test_leave_group_does_nothing_without_a_group(kafka, tp):
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        await private.leave_group(consumer)


async def test_end_fetches_leaves_no_request_behind(kafka, tp):
    async with consuming(kafka.bootstrap_servers, tp, fetch_max_wait_ms=20_000) as consumer:
        await consumer.getmany(timeout_ms=500)
        tasks = set(consumer._fetcher._pending_tasks)
        assert tasks
        await private.end_fetches(consumer, PATIENCE_S)
        assert all(task.done() for task in tasks)
        assert not consumer._fetcher._pending_tasks


async def test_set_gathering_holds_for_the_next_request(kafka, tp, monkeypatch):
    asked = asyncio.Queue()
    async with consuming(kafka.bootstrap_servers, tp, fetch_max_wait_ms=50) as consumer:
        client = private.client_of(consumer)
        send = client.send

        async def noting(node, request, **options):
            if isinstance(request, FetchRequest):
                asked.put_nowait((request._min_bytes, request._max_wait_ms))
            return await send(node, request, **options)

        monkeypatch.setattr(client, "send", noting)
        async with asyncio.timeout(PATIENCE_S):
            await consumer.getmany(timeout_ms=100)
            assert await asked.get() == (1, 50)
            private.set_gathering(consumer, 1 << 20, 300)
            while (found := await asked.get()) == (1, 50):
                pass
    assert found == (1 << 20, 300)


async def test_take_fetched_gives_the_bytes_and_moves_the_position(kafka, tp):
    await produce(kafka.bootstrap_servers, tp.topic, [(b"k", b"value-%d" % n) for n in range(3)])
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        found = await fetched(consumer, tp)
        assert (found.start, found.end) == (0, 3)
        assert found.batches[-1].next_offset == 3
        assert all(b"value-%d" % n in bytes(found.data) for n in range(3))
        assert await consumer.position(tp) == 3
        assert private.take_fetched(consumer, tp) is None


async def test_fetch_waiter_is_done_when_records_come(kafka, tp):
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        waiter = private.fetch_waiter(consumer)
        assert not waiter.done()
        await produce(kafka.bootstrap_servers, tp.topic, [(b"k", b"a")])
        await asyncio.wait_for(waiter, PATIENCE_S)


async def test_is_passed_over_tells_aborted_batches_and_markers(kafka, tp):
    async with transactional(kafka, unique("id")) as producer:
        for name, commit in ((b"a", True), (b"x", False)):
            await producer.begin_transaction()
            await producer.send_and_wait(tp.topic, name, partition=0)
            await (producer.commit_transaction() if commit else producer.abort_transaction())
    await produce(kafka.bootstrap_servers, tp.topic, [(b"k", b"b")])
    passed = {}
    async with asyncio.timeout(PATIENCE_S), consuming(kafka.bootstrap_servers, tp) as consumer:
        while len(passed) < 5:
            found = await fetched(consumer, tp)
            for batch in found.batches if found else ():
                passed[batch.base_offset] = private.is_passed_over(found.transactions, batch)
    # A committed record and its marker, an aborted one and its marker, one without a transaction.
    assert passed == {0: False, 1: True, 2: True, 3: True, 4: False}


async def test_track_topic_has_it_in_the_next_metadata(kafka, tp):
    client = AIOKafkaClient(bootstrap_servers=kafka.bootstrap_servers)
    await client.bootstrap()
    try:
        private.track_topic(client, tp.topic)
        await client.force_metadata_update()
        assert client.cluster.partitions_for_topic(tp.topic) == {0}
    finally:
        await client.close()


async def test_transactional_id_of_a_producer_with_and_without_one(kafka):
    async with transactional(kafka, "mine") as producer:
        assert private.transactional_id_of(producer) == "mine"
    for options in ({}, {"enable_idempotence": True}):
        async with AIOKafkaProducer(
            bootstrap_servers=kafka.bootstrap_servers, **options
        ) as producer:
            assert private.transactional_id_of(producer) is None


async def test_producer_identity_is_the_next_epoch_each_time(kafka):
    name = unique("id")
    async with transactional(kafka, name) as first:
        number, epoch = private.producer_identity(first)
    async with transactional(kafka, name) as second:
        assert private.producer_identity(second) == (number, epoch + 1)


async def test_take_identity_is_fenced_with_its_owner(kafka, tp):
    name = unique("id")
    async with transactional(kafka, name) as owner:
        identity = private.producer_identity(owner)
    taking = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, enable_idempotence=True)
    private.take_identity(taking, identity)
    await taking.start()
    try:
        await taking.send_and_wait(tp.topic, b"a", partition=0)
        assert private.producer_identity(taking) == identity
        async with transactional(kafka, name) as later:
            await later.begin_transaction()
            await later.send_and_wait(tp.topic, b"b", partition=0)
            await later.commit_transaction()
        with pytest.raises(KafkaError):
            await taking.send_and_wait(tp.topic, b"c", partition=0)
    finally:
        await stop_producer(taking)


async def test_will_mark_opens_a_partition_without_a_record(kafka, tp):
    async with transactional(kafka, unique("id")) as producer:
        await producer.begin_transaction()
        private.will_mark(producer, tp)
        await producer.commit_transaction()
    async with consuming(kafka.bootstrap_servers, tp) as consumer:
        assert await consumer.end_offsets([tp]) == {tp: 1}  # the marker


async def test_transaction_outcome_says_who_was_fenced(kafka, tp):
    name = unique("id")
    old = transactional(kafka, name)
    await old.start()
    try:
        await old.begin_transaction()
        async with transactional(kafka, name):
            delivery = await old.send(tp.topic, b"x", partition=0)
            with pytest.raises(KafkaError):
                await delivery
        outcome = private.transaction_outcome(old)
        assert isinstance(outcome.exception(), ProducerFenced)
        with pytest.raises(REFUSED):
            await old.commit_transaction()
    finally:
        await stop_producer(old)


async def test_transaction_outcome_of_a_producer_without_transactions(kafka):
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        assert private.transaction_outcome(producer) is None


async def test_kept_futures_are_of_what_is_not_sent_yet(kafka, tp):
    async with AIOKafkaProducer(
        bootstrap_servers=kafka.bootstrap_servers, linger_ms=5_000
    ) as producer:
        delivery = await producer.send(tp.topic, b"x", partition=0)
        kept = list(private.kept_futures(producer))
        assert len(kept) == 2  # the batch's own and whether it is drained
        assert not any(future.done() for future in kept)
        await producer.flush()
        await delivery
        assert all(future.done() for future in kept)


async def test_sender_of_a_producer_runs_its_requests(kafka):
    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
        sender = private.sender_of(producer)
        frames = (getattr(task.get_coro(), "cr_frame", None) for task in asyncio.all_tasks())
        assert any(frame and frame.f_locals.get("self") is sender for frame in frames)
