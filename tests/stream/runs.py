"""Sorted runs and due times from what a test can write down."""

from __future__ import annotations

import numpy as np

from stream.pipeline.due_times import NO_DUE
from stream.pipeline.records import Records, Row


def run_of(pairs):
    """A run of (key, value) with ascending keys; a value of None is a tombstone."""
    records = Records.of([Row(0, 0, key, value) for key, value in pairs])
    return records.newest_run(range(256))


def each(due_of):
    """What a restore asks for due times, from a function of one record that may return None."""

    def dues(data, begins, ends):
        found = [due_of(data[begin:end].tobytes()) for begin, end in zip(begins, ends, strict=True)]
        return np.array([NO_DUE if due is None else due for due in found], np.int64)

    return dues
