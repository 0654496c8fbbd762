"""Quix Streams: state in RocksDB with a changelog; the GRU, where asked for, once per event."""

from typing import Any

from quixstreams import Application, State

from benchmarks.peers.gru import Gru
from benchmarks.peers.task import appended, message, read_task

task = read_task()
gru = Gru(task.model) if task.model else None


def keep(event: dict[str, Any], state: State) -> dict[str, Any]:
    """Append, store, score, answer."""
    kept = appended(state.get("last"), event)
    state.set("last", kept)
    return message(event, kept, gru.scores([kept])[0] if gru else None)


if __name__ == "__main__":
    app = Application(
        broker_address=task.bootstrap,
        consumer_group=task.group,
        auto_offset_reset="earliest",
        state_dir=task.folder,
        loglevel="WARNING",
    )
    events = app.dataframe(app.topic(task.source, key_deserializer="str"))
    answers = events.apply(keep, stateful=True)
    answers.to_topic(app.topic(task.output, key_serializer="str"))
    app.run()
