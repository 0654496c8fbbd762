"""Event logs for tests: shoppers, a bot, disorder, duplicates; and a model to score them."""

from __future__ import annotations

import copy
import functools
import random
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.data.spend import spend_target
from models.encoding import columns, encode_event, hash64
from models.history import SessionRules, history_dtype
from models.inputs.apply import apply_in_order
from models.inputs.features import PROFILE_FEATURES, event_inputs
from models.log.eventlog import EventLog, in_order
from models.networks.gru import Gru
from models.populations import EVENT, TIMER
from models.serving.artifact import script_bytes
from models.serving.manifest import Manifest
from models.serving.recalibration import BetaMap, Recalibration, Recalibrator
from models.serving.scorer import Scorer, manifest_of, network_spec
from models.survival import hazard_targets
from models.targets import ABSENT, Target, shop_targets
from schemas.codec import encode
from schemas.events import CartAdd, Event, Purchase, Refund, View
from tests.models.profiles import profile_of
from tests.oracle import Ev, UserHistory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from stream.config.settings import StateSettings

DAY = 86_400_000
START = 1_600_000_000_000
LAST_EVENTS = 20
TARGETS = shop_targets(6, 7 * DAY, 28 * DAY)
WAITING = (*TARGETS, *hazard_targets(6, (2 * DAY, 7 * DAY, 28 * DAY)))
"""The same with a wait in three bins."""
SPENDING = (*WAITING, spend_target(6, 7 * DAY, 5_000))
"""And with an expected spend."""

Raw = tuple[bytes | None, bytes | None, int]
"""(key, value, broker timestamp ms)."""


def random_gru(seed: int = 0, targets: tuple[Target, ...] = TARGETS) -> Gru:
    """An untrained GRU: its numbers mean nothing, but depend on all that a trained one's would."""
    torch.manual_seed(seed)
    network = Gru(network_spec(targets)).eval()
    for weights in network.parameters():
        torch.nn.init.normal_(weights, std=0.1)
    # Who stays away is likelier gone, and the risks are spread over the alert thresholds.
    silence = PROFILE_FEATURES.index("log_silence_hours")
    with torch.no_grad():
        for column, target in enumerate(targets):
            network.direct.weight[column, silence] = 2.0 if target.kind == ABSENT else -1.0
        ids, nums, sizes, profiles = _shoppers()
        told = nums.flatten(0, 1)
        network.set_standardisation(profiles.mean(0), profiles.std(0), told.mean(0), told.std(0))
        logits = network.raw_logits(network.encode(ids, nums, sizes), profiles)
    slope = 1 / logits.std(dim=0)
    network.set_calibration(slope, -slope * logits.mean(dim=0))
    return network


@functools.cache
def _shoppers() -> tuple[torch.Tensor, ...]:
    """Events [B,L,C], [B,L,F], [B] and profiles [B,P] as users of a shop have them.

    Of each user the last events, seen from the last of them to two days behind it.
    """
    events = shop_log(7, 1200)
    names = np.array([hash64(event.user_id) for event in events], np.uint64)
    log = in_order(EventLog(names, columns([encode_event(event) for event in events])), None)
    rows = np.repeat(np.arange(len(log.starts)), log.sizes)
    records = np.zeros(len(log.starts), history_dtype(64))
    trace = apply_in_order(records, rows, log.log.events, SessionRules())
    sizes = np.minimum(log.sizes, LAST_EVENTS)
    last = (log.starts + log.sizes - sizes)[:, None] + np.arange(LAST_EVENTS)
    last = np.minimum(last, len(rows) - 1)
    ids, nums = (torch.from_numpy(part)[last] for part in event_inputs(trace))
    users = np.arange(len(records))
    profiles = profile_of(records, users, records["last_time"] + users * DAY // 12)
    return ids, nums, torch.from_numpy(sizes), torch.from_numpy(profiles)


def gru_manifest(
    network: Gru, version: str, created_at: int = 0, targets: tuple[Target, ...] = TARGETS
) -> Manifest:
    """What a trainer would say of it."""
    return manifest_of(
        network,
        version,
        "gru",
        history_length=32,
        targets=targets,
        reference_profile=(0.0,) * len(PROFILE_FEATURES),
        created_at=created_at,
    )


def gru_scorer(
    version: str = "gru-test", seed: int = 0, targets: tuple[Target, ...] = TARGETS
) -> Scorer:
    """A scorer of a random GRU."""
    network = random_gru(seed, targets)
    manifest = gru_manifest(network, version, targets=targets)
    return Scorer.of_script(script_bytes(network), manifest)


def mapped(scorer: Scorer, version: str = "map-1") -> tuple[Scorer, Recalibration]:
    """The same model with a recalibration that bends all its probabilities, and its content."""
    maps = {target.name: BetaMap(1.4, 0.6, 0.5) for target in scorer.targets}
    found = Recalibration(
        version=version,
        model_version=scorer.version,
        model_digest="0" * 64,
        created_at=START,
        until=START,
        window_ms=DAY,
        maps={EVENT: maps, TIMER: {name: BetaMap(0.7, 1.2, -0.2) for name in maps}},
    )
    other = copy.copy(scorer)
    other.recalibration = Recalibrator(found, scorer.targets)
    return other, found


def shop_log(seed: int, events: int, users: int = 30, days: float = 30) -> list[Event]:
    """Events in order of time; user 0 is a bot that sends a third of them."""
    rng = random.Random(seed)
    times = sorted(rng.randrange(int(days * DAY)) for _ in range(events))
    log: list[Event] = []
    for i, time in enumerate(times):
        user = 0 if rng.random() < 0.3 else min(int(rng.paretovariate(0.4)), users)
        kind = rng.choice([View, View, View, CartAdd, Purchase, Purchase, Refund])
        log.append(
            kind(
                event_id=f"{seed}-{i}",
                user_id=f"user-{user}",
                event_time=START + time,
                item_id=f"item-{rng.randrange(50)}",
                category_id=f"category-{rng.randrange(9)}",
                price=round(rng.random() * 50, 2),
                quantity=rng.randrange(1, 4),
            )
        )
    return log


def passers_by(at: float) -> list[Event]:
    """Four users at ``at`` days after the start: together they move the event clock.

    One user alone, whose clock may be wrong, does not move it far; three do. The first two may be
    needed to confirm an earlier time that somebody was at alone, so there is one more.
    """
    time = START + round(at * DAY)
    return [
        View(event_id=f"{user}-{at}", user_id=user, event_time=time)
        for user in ("passer-1", "passer-2", "passer-3", "passer-4")
    ]


def disordered(log: list[Event], seed: int, jitter: int) -> list[Event]:
    """The same events in another order: each moved by less than ``jitter`` ms of its time."""
    rng = random.Random(seed)
    return [
        e
        for _, _, e in sorted(
            (e.event_time + rng.randrange(jitter), i, e) for i, e in enumerate(log)
        )
    ]


def duplicated(log: list[Event], seed: int, share: float, within: int = 20) -> list[Event]:
    """A share of events sent again, a few places later."""
    rng = random.Random(seed)
    placed = [(float(i), event) for i, event in enumerate(log)]
    again = rng.sample(placed, int(len(log) * share))
    placed += [(place + rng.randrange(within) + 0.5, event) for place, event in again]
    return [event for _, event in sorted(placed, key=lambda pair: pair[0])]


def raw(log: list[Event]) -> list[Raw]:
    """As records."""
    return [(e.user_id.encode(), encode(e), e.event_time) for e in log]


def judged_by_oracle(
    log: list[Event], state: StateSettings, came: Sequence[tuple[bool, bool]] | None = None
) -> tuple[dict[str, UserHistory], dict[str, int]]:
    """What the plain-Python oracle says of a log: per user the history, and the totals.

    ``came``: per event whether it was loaded as history, and is on time by all others; see `offer`.
    """
    users: dict[str, UserHistory] = {}
    totals = {"accepted": 0, "duplicate": 0, "late": 0, "invalid": 0}
    for place, event in enumerate(log):
        history = users.setdefault(
            event.user_id,
            UserHistory(
                state.ring,
                state.session_gap_ms,
                state.session_max_ms,
                state.grace_ms,
                state.ttl_ms or None,
                state.correction_ms,
            ),
        )
        loaded, on_time = came[place] if came else (False, False)
        verdict = history.offer(Ev(*encode_event(event)), loaded=loaded, on_time=on_time)
        totals["invalid" if verdict == "reused" else verdict] += 1
    return users, totals
