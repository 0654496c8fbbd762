"""A simulated shop whose sessions tell intent by the order of their events and by nothing else.

A session is a hidden Markov chain over two states, browsing and intent. Each event moves on a cycle
of three event types (search, view, favourite) and stays in its category or changes it. Which way
round the cycle is followed depends on state and category: in most categories a user with intent
moves forward (search, view, favourite, search) and a user who browses backward, in every fourth
category the reverse. So both states have the same counts of event types, of categories and of
pauses: only the order tells them apart, and what it means depends on the category. Before each
event a user with intent may buy, and either may leave.

The probability of a purchase in the rest of the session is known exactly at each event. The forward
algorithm (Rabiner, Proceedings of the IEEE 77, 1989) gives the posterior of the hidden state from
the events of the session so far; absorption probabilities of the chain do the rest. No model that
sees these events can have a higher expected AUROC or a lower expected log-loss.

Shape suffixes: N events, Z states.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.encoding import category_code, hash64, item_code
from models.history import PURCHASE, Events
from models.log.eventlog import EventLog
from schemas.events import EventType

F64 = NDArray[np.float64]
I64 = NDArray[np.int64]

BROWSING: Final = 0
INTENT: Final = 1
CYCLE: Final = (int(EventType.SEARCH), int(EventType.VIEW), int(EventType.FAVOURITE))
REVERSED: Final = 4
"""Of so many categories one is followed the other way round."""
START: Final = 1_700_000_000_000
DAY: Final = 86_400_000
HOUR: Final = 3_600_000


@dataclass(frozen=True)
class FunnelPlan:
    """How the shop is drawn."""

    users: int = 1_000
    sessions: int = 10
    """Per user."""
    days: int = 60
    categories: int = 8
    items: int = 40
    """Per category."""
    begins_with_intent: float = 0.4
    becomes_intent: float = 0.006
    """Probability per event that a browsing user gets the intent."""
    loses_intent: float = 0.01
    follows: float = 0.65
    """Probability that the type moves in the state's direction; half of the rest stays, half goes
    the other way."""
    keeps_category: float = 0.8
    leaves: float = 0.06
    """Probability per event that the session ends without a purchase, in either state."""
    buys: tuple[float, float] = (0.001, 0.1)
    """Probability per event of a purchase, which ends the session: browsing, with intent."""
    seed: int = 1

    @property
    def moves(self) -> F64:
        """Probability [Z,Z] of the state at the next event, by the state at this one."""
        a, b = self.becomes_intent, self.loses_intent
        return np.array([[1 - a, a], [b, 1 - b]])

    @property
    def initial(self) -> F64:
        """Probability [Z] of the state at a session's first event."""
        return np.array([1 - self.begins_with_intent, self.begins_with_intent])

    def rest(self) -> F64:
        """Probability [Z] of a purchase later in the session, by the state at an event.

        v = M (b + (1 - b - e) v): the chain moves, then the user buys, leaves or goes on.
        """
        buys = np.array(self.buys)
        goes_on = 1 - buys - self.leaves
        moves = self.moves
        found: F64 = np.linalg.solve(np.eye(2) - moves * goes_on, moves @ buys)
        return found


@dataclass(frozen=True)
class Funnel:
    """A drawn shop. Events are in order of user and time."""

    log: EventLog
    truth: F64
    """[N] true probability, given the session so far, that a purchase follows in it; of the event
    whose id is n + 1."""


def draw_funnel(plan: FunnelPlan) -> Funnel:
    """Draw the shop; equal on every call."""
    rng = np.random.default_rng(plan.seed)
    users: list[int] = []
    times: list[int] = []
    kinds: list[int] = []
    categories: list[int] = []
    truth: list[float] = []
    rest = plan.rest()
    for user in range(plan.users):
        begins = np.sort(rng.uniform(0, plan.days * DAY, plan.sessions)).astype(np.int64)
        # Further apart than any session gap.
        begins += START + np.arange(plan.sessions) * 12 * HOUR
        for begin in begins:
            kind_L, category_L, bought = _session(plan, rng)
            posterior_LZ = filtered(plan, kind_L, category_L)
            size = len(kind_L) + bought
            pauses = rng.uniform(3_000, 60_000, size).astype(np.int64)
            times += (begin + np.cumsum(pauses)).tolist()
            users += [user] * size
            kinds += [CYCLE[kind] for kind in kind_L] + [PURCHASE] * bought
            categories += category_L + category_L[-1:] * bought
            truth += (posterior_LZ @ rest).tolist() + [0.0] * bought
    category = np.array(categories)
    item = category * plan.items + rng.integers(0, plan.items, len(category))
    codes = np.array([category_code(f"c{k}") for k in range(plan.categories)], np.uint16)
    items = np.array([item_code(f"i{k}") for k in range(plan.categories * plan.items)], np.uint32)
    names = np.array([hash64(f"u{k}") for k in range(plan.users)], np.uint64)
    size = len(times)
    events = Events(
        time=np.array(times, np.int64),
        id=np.arange(1, size + 1, dtype=np.uint64),
        type=np.array(kinds, np.uint8),
        item=items[item],
        category=codes[category],
        amount=np.zeros(size, np.int64),
        order=np.zeros(size, np.uint32),
        quantity=np.ones(size, np.uint32),
    )
    return Funnel(EventLog(names[np.array(users)], events), np.array(truth))


def _session(plan: FunnelPlan, rng: np.random.Generator) -> tuple[list[int], list[int], bool]:
    """Places on the cycle and categories of a session's events, and whether a purchase ends it."""
    state = int(rng.random() < plan.begins_with_intent)
    kinds, categories = [int(rng.integers(len(CYCLE)))], [int(rng.integers(plan.categories))]
    leaves_intent = (plan.becomes_intent, 1 - plan.loses_intent)
    while True:
        state = int(rng.random() < leaves_intent[state])
        ends = rng.random()
        if ends < plan.buys[state]:
            return kinds, categories, True
        if ends < plan.buys[state] + plan.leaves:
            return kinds, categories, False
        category = categories[-1]
        if rng.random() >= plan.keeps_category:
            category = int(rng.integers(plan.categories))
        moves = type_moves(plan, state, category)
        kinds.append((kinds[-1] + int(rng.choice(3, p=moves))) % len(CYCLE))
        categories.append(category)


def type_moves(plan: FunnelPlan, state: int, category: int) -> F64:
    """Probabilities that the type stays, moves forward, moves backward."""
    other = (1 - plan.follows) / 2
    forward = (state == INTENT) == (category % REVERSED != REVERSED - 1)
    return np.array([other, plan.follows if forward else other, other if forward else plan.follows])


def filtered(plan: FunnelPlan, kinds: list[int], categories: list[int]) -> F64:
    """Posterior [L,Z] of the state at each event of a session, given its events up to it.

    Args:
        plan: how the session was drawn.
        kinds: places on the cycle.
        categories: of the same events.
    """
    moves, goes_on = plan.moves, 1 - np.array(plan.buys) - plan.leaves
    posterior = plan.initial
    out = [posterior]
    for place in range(1, len(kinds)):
        step = (kinds[place] - kinds[place - 1]) % len(CYCLE)
        seen = [type_moves(plan, state, categories[place])[step] for state in (BROWSING, INTENT)]
        posterior = (posterior @ moves) * goes_on * seen
        posterior = posterior / posterior.sum()
        out.append(posterior)
    return np.array(out)
