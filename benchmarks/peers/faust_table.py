"""A plain Faust agent with a table: a 50-item list per user, RocksDB and changelog. No model."""

import sys
from typing import Any

import faust
from faust import Worker

from benchmarks.peers.task import appended, message, read_task

task = read_task()
app = faust.App(
    task.group,
    broker=f"kafka://{task.bootstrap}",
    store="rocksdb://",
    datadir=str(task.folder),
    topic_partitions=task.partitions,
    topic_replication_factor=1,
    topic_disable_leader=True,
    web_enabled=False,
)
source = app.topic(task.source, key_type=bytes, value_serializer="json")
output = app.topic(task.output, key_type=bytes, value_serializer="json")
last = app.Table("last", default=list, partitions=task.partitions)


@app.agent(source)
async def keep(events: faust.StreamT[Any]) -> None:
    """Append, store, answer."""
    async for event in events:
        user = event["user_id"]
        last[user] = kept = appended(last[user], event)
        await output.send(key=str(user).encode(), value=message(event, kept))


if __name__ == "__main__":
    sys.argv = sys.argv[:1]
    Worker(app, loglevel="warning").execute_from_commandline()
