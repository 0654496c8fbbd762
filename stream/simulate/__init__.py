"""A shop with known truth: synthetic events whose hazards of buying and leaving are on record.

`plan.py` says what to simulate, `truth.py` holds each user's hazards, `shop.py` draws the events,
`faults.py` adds what real streams suffer from, `wire.py` makes records of it.
"""

from stream.simulate.faults import Delivery, Faults, deliver
from stream.simulate.plan import Plan, SimulateError
from stream.simulate.shop import Shop, simulate
from stream.simulate.truth import Truth
from stream.simulate.wire import rows

__all__ = [
    "Delivery",
    "Faults",
    "Plan",
    "Shop",
    "SimulateError",
    "Truth",
    "deliver",
    "rows",
    "simulate",
]
