"""Logs of REES46 and RetailRocket -> event logs, of a sample of users that memory has room for.

REES46 "eCommerce behavior data from multi category store": one CSV a month with `event_time` ("...
UTC"), `event_type` (view, cart, remove_from_cart, purchase), `product_id`, `category_id`, `price`,
`user_id`. RetailRocket `events.csv`: `timestamp` (ms), `visitorid`, `event` (view, addtocart,
transaction), `itemid`, `transactionid`; categories are in another file and are not read.

Sampled are whole users, by a hash of their id that does not depend on the file's order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

from models.evaluation.sources import log_of_columns, query
from models.log.eventlog import EventLog
from schemas.events import TYPE_CODES

REES46: Final = "2019-Oct.csv"
RETAILROCKET: Final = "events.csv"
SAMPLED: Final = 64
"""One of so many users of REES46 is read: 42 million events become some 660,000."""

_REES46: Final = {
    "view": "view",
    "cart": "cart_add",
    "remove_from_cart": "cart_remove",
    "purchase": "purchase",
}
_RETAILROCKET: Final = {"view": "view", "addtocart": "cart_add", "transaction": "purchase"}


def read_rees46(path: Path, one_of: int = SAMPLED) -> EventLog:
    """One of so many users of a month.

    Raises:
        EvaluationError: it is not a file of REES46, or holds no event.
    """
    rows = query(
        path,
        """
        select user_id::varchar as customer,
               epoch_ms(strptime(replace(event_time, ' UTC', ''), '%Y-%m-%d %H:%M:%S')) as time,
               event_type as kind, product_id::varchar as item,
               coalesce(category_id::varchar, '') as category, coalesce(price, 0.0) as price
        from read_csv(?, header = true, types = {'event_time': 'varchar', 'event_type': 'varchar',
            'product_id': 'varchar', 'category_id': 'varchar', 'price': 'double',
            'user_id': 'varchar'})
        where event_type in ('view', 'cart', 'remove_from_cart', 'purchase')
              and event_time is not null and user_id is not null
              and md5_number(user_id::varchar) % $sampled = 0
        """.replace("$sampled", str(int(one_of))),
    )
    return log_of_columns(
        rows["customer"],
        rows["time"].astype(np.int64),
        np.array([TYPE_CODES[_REES46[kind]] for kind in rows["kind"]], np.uint8),
        amount=np.maximum(np.nan_to_num(rows["price"].astype(np.float64)), 0.0),
        item=rows["item"],
        category=rows["category"],
    )


def read_retailrocket(path: Path, one_of: int = 1) -> EventLog:
    """Visitors of RetailRocket; a transaction is one order.

    Raises:
        EvaluationError: it is not RetailRocket's `events.csv`, or holds no event.
    """
    rows = query(
        path,
        """
        select visitorid::varchar as customer, timestamp as time, event as kind,
               itemid::varchar as item, coalesce(transactionid::varchar, '') as transaction
        from read_csv(?, header = true, types = {'timestamp': 'bigint', 'visitorid': 'varchar',
            'event': 'varchar', 'itemid': 'varchar', 'transactionid': 'varchar'})
        where event in ('view', 'addtocart', 'transaction') and timestamp is not null
              and md5_number(visitorid::varchar) % $sampled = 0
        """.replace("$sampled", str(int(one_of))),
    )
    return log_of_columns(
        rows["customer"],
        rows["time"].astype(np.int64),
        np.array([TYPE_CODES[_RETAILROCKET[kind]] for kind in rows["kind"]], np.uint8),
        item=rows["item"],
        order=rows["transaction"],
    )
