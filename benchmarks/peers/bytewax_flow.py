"""Bytewax: state in memory; the GRU, where asked for, on micro-batches of 256 events."""

import json
from datetime import timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSink, KafkaSinkMessage, KafkaSource
from bytewax.dataflow import Dataflow
from bytewax.run import cli_main

from benchmarks.peers.gru import Gru
from benchmarks.peers.task import Entry, appended, message, read_task

BATCH = 256
LONGEST_WAIT = timedelta(milliseconds=100)

Kept = tuple[dict[str, Any], list[Entry]]

task = read_task()
gru = Gru(task.model) if task.model else None


def decode(record: Any) -> tuple[str, dict[str, Any]]:
    """User and event of a record."""
    event = json.loads(record.value)
    return event["user_id"], event


def keep(kept: list[Entry] | None, event: dict[str, Any]) -> tuple[list[Entry], Kept]:
    """Append; the state is the list itself."""
    now = appended(kept, event)
    return now, (event, now)


def answer(batch: list[Kept]) -> list[KafkaSinkMessage[bytes, bytes]]:
    """Score a micro-batch."""
    scores = gru.scores([kept for _, kept in batch]) if gru else [None] * len(batch)
    return [
        KafkaSinkMessage(
            event["user_id"].encode(), json.dumps(message(event, kept, score)).encode()
        )
        for (event, kept), score in zip(batch, scores, strict=True)
    ]


flow = Dataflow("last")
records = op.input("in", flow, KafkaSource([task.bootstrap], [task.source], tail=True))
kept = op.stateful_map("keep", op.map("decode", records, decode), keep)
whole = op.map("one key", kept, lambda item: ("all", item[1]))
batches = op.collect("collect", whole, timeout=LONGEST_WAIT, max_size=BATCH)
answers = op.flat_map("answer", batches, lambda item: answer(item[1]))
op.output("out", answers, KafkaSink([task.bootstrap], task.output))

if __name__ == "__main__":
    cli_main(flow, workers_per_process=1)
