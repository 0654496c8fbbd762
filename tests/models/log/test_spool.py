"""A log on disk reads like the log in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.data.points import mix
from models.errors import DatasetError
from models.log.eventlog import EventLog, in_order
from models.log.spool import Spool
from tests.models.shop import shop_log


def hashed(log: EventLog) -> EventLog:
    return EventLog(mix(log.users), log.events)


def test_parts_hold_the_whole_log_in_the_order_of_users(tmp_path: Path) -> None:
    log = hashed(shop_log(users=200))
    with Spool(tmp_path, bits=3) as spool:
        for start in range(0, len(log), 700):
            spool.append(log.take(np.arange(start, min(start + 700, len(log)))))
        assert len(spool) == len(log)
        parts = list(spool.parts())
        assert len(parts) == 8
        whole = in_order(log, 600_000)
        joined = EventLog.join([in_order(part, 600_000).log for part in parts])
        assert np.array_equal(joined.users, whole.log.users)
        assert np.array_equal(joined.events.id, whole.log.events.id)
        assert np.array_equal(joined.events.amount, whole.log.events.amount)
        assert len(list(spool.parts())) == 8
    assert list(tmp_path.iterdir()) == []


def test_what_is_forgotten_is_gone(tmp_path: Path) -> None:
    log = hashed(shop_log(users=20))
    with Spool(tmp_path) as spool:
        spool.append(log, np.arange(len(log)))
        gone = log.users[0]
        mine = int((log.users == gone)[:100].sum())
        assert spool.forget(lambda users, arrived: (users != gone) | (arrived >= 100)) == mine > 0
        assert len(spool) == len(log) - mine
        spool.append(log.take(np.arange(5)))
        found = EventLog.join(list(spool.parts()))
        assert len(found) == len(spool) == len(log) - mine + 5
        assert spool.forget(lambda users, _: users > 0) == 0


def test_an_empty_spool_has_no_parts(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        spool.append(shop_log(users=3).until(0))
        assert list(spool.parts()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"cannot keep the events under .*make room"):
        Spool(tmp_path / "file").append(shop_log(users=3))
