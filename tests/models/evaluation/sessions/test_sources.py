"""Files of the shape of REES46 and RetailRocket as event logs; the real ones are not here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.errors import EvaluationError
from models.evaluation.sessions.sources import read_rees46, read_retailrocket
from models.history import AMOUNT_UNIT
from schemas.events import TYPE_CODES

COLUMNS = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session"
)
REES46 = """
2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde
2019-10-01 00:00:01 UTC,cart,3900821,2053013552326770905,x.y,aqua,33.20,554748717,9333dfbd
2019-10-01 00:00:04 UTC,remove_from_cart,3900821,2053013552326770905,,aqua,33.20,554748717,9333dfbd
2019-10-01 00:01:05 UTC,purchase,1307067,2053013558920217191,pc,lenovo,251.74,550050854,7c90fc7
2019-10-01 00:01:09 UTC,gift,1307067,2053013558920217191,pc,lenovo,251.74,550050854,7c90fc7
"""
ROCKET = """timestamp,visitorid,event,itemid,transactionid
1433221332117,257597,view,355908,
1433224214164,992329,addtocart,248676,
1433222276276,599528,transaction,356475,4000
1433222276277,599528,transaction,356476,4000
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "log.csv"
    path.write_text(text)
    return path


def test_rees46_has_types_prices_and_categories(tmp_path: Path) -> None:
    log = read_rees46(written(tmp_path, COLUMNS + REES46), one_of=1)
    kinds = [TYPE_CODES[kind] for kind in ("view", "cart_add", "cart_remove", "purchase")]
    assert log.events.type.tolist() == kinds
    assert log.events.time.tolist()[:2] == [1_569_888_000_000, 1_569_888_001_000]
    assert log.events.amount.tolist()[3] == round(251.74 * AMOUNT_UNIT)
    assert log.users[1] == log.users[2] != log.users[0]
    assert (log.events.category != 0).all()


def test_retailrocket_has_one_order_per_transaction(tmp_path: Path) -> None:
    log = read_retailrocket(written(tmp_path, ROCKET))
    kinds = [TYPE_CODES[kind] for kind in ("view", "cart_add", "purchase", "purchase")]
    assert log.events.type.tolist() == kinds
    assert log.events.order.tolist()[:2] == [0, 0]
    assert log.events.order[2] == log.events.order[3] != 0


def test_a_sample_holds_whole_users(tmp_path: Path) -> None:
    rows = [f"{1_433_221_000_000 + place},{place % 200},view,{place}," for place in range(2_000)]
    path = written(tmp_path, "timestamp,visitorid,event,itemid,transactionid\n" + "\n".join(rows))
    whole, some = read_retailrocket(path), read_retailrocket(path, one_of=4)
    users, counts = np.unique(some.users, return_counts=True)
    assert 20 < len(users) < 90
    assert set(counts) == {10}
    assert set(users) < set(whole.users)


def test_another_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="not the file that is meant"):
        read_rees46(written(tmp_path, "a,b\n1,2\n"))
