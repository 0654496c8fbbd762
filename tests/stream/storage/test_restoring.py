"""A restore in several runs, whole and interrupted, against the newest values in a dictionary."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import pytest

import stream.storage.restoring
from stream.errors import StoreError
from stream.health.vitals import Progress
from stream.pipeline.due_times import DueTimes
from stream.pipeline.records import Records, Row
from stream.storage.restoring import Restoring
from stream.storage.store import NO_OFFSET, RocksStore
from stream.storage.store_identity import StoreIdentity
from stream.storage.store_options import StoreMemory
from tests.stream.runs import each

pytestmark = pytest.mark.slow

IDENTITY = StoreIdentity("app", "app.users.changelog", 0, 1)
USERS, VERSIONS = 300, 4


class TinyRuns(StoreMemory):
    """So little memory that each fetch is a run."""

    run_bytes = 1


def fetches() -> list[list[Row]]:
    """Each user in each of them; every seventh forgotten in the end."""
    return [
        [
            Row(
                version * USERS + n,
                0,
                b"u%d" % n,
                None if version == VERSIONS - 1 and n % 7 == 0 else b"%d" % (100 * version + n),
            )
            for n in range(USERS)
        ]
        for version in range(VERSIONS)
    ]


def due_of(value: bytes) -> int | None:
    return int(value) if int(value) % 2 else None


def check(store: RocksStore) -> None:
    rows = fetches()[-1]
    values = {row.key: row.value for row in rows if row.value is not None}
    assert dict(store.scan(b"u", 2 * USERS)) == values
    timers = sorted((due, key) for key, value in values.items() if (due := due_of(value)))
    assert store.due(2**62, 2 * USERS) == timers
    assert store.changelog_offset == VERSIONS * USERS - 1
    assert not store.restoring


@pytest.mark.parametrize("memory", [StoreMemory, TinyRuns])
@pytest.mark.parametrize("most_users", [USERS // 4, 10 * USERS])
def test_the_newest_values_and_their_timers(tmp_path, monkeypatch, memory, most_users):
    monkeypatch.setattr(stream.storage.restoring, "DueTimes", lambda: DueTimes(most_users))
    with (
        RocksStore.open(tmp_path / "db", IDENTITY, memory()) as store,
        closing(Restoring(store, each(due_of))) as restoring,
    ):
        restoring.begin()
        for rows in fetches():
            restoring.take(Records.of(rows), rows[-1].offset)
        restoring.finish(VERSIONS * USERS - 1, Progress())
        check(store)


def test_what_was_loaded_before_an_interruption_has_timers_too(tmp_path):
    first, *rest = fetches()
    with (
        RocksStore.open(tmp_path / "db", IDENTITY, TinyRuns()) as store,
        closing(Restoring(store, each(due_of))) as restoring,
    ):
        restoring.begin()
        restoring.take(Records.of(first), first[-1].offset)
    with RocksStore.open(tmp_path / "db", IDENTITY) as store:
        assert store.restoring
        assert store.changelog_offset == first[-1].offset
        with closing(Restoring(store, each(due_of))) as restoring:
            restoring.begin()
            for rows in rest:
                restoring.take(Records.of(rows), rows[-1].offset)
            restoring.finish(VERSIONS * USERS - 1, Progress())
        check(store)


@pytest.mark.parametrize("finish", [False, True])
def test_a_run_that_could_not_be_written_is_told_later_and_nothing_is_noted(tmp_path, finish):
    first, second, *_ = fetches()
    path = tmp_path / "db"
    with (
        RocksStore.open(path, IDENTITY, TinyRuns()) as store,
        closing(Restoring(store, each(due_of))) as restoring,
    ):
        restoring.begin()
        (path / "restored.sst").mkdir()
        restoring.take(Records.of(first), first[-1].offset)
        later = (
            partial(restoring.finish, second[-1].offset, Progress())
            if finish
            else partial(restoring.take, Records.of(second), second[-1].offset)
        )
        with pytest.raises(StoreError, match="cannot be used"):
            later()
        assert store.restoring
        assert store.changelog_offset == NO_OFFSET
