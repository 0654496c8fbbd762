"""Heads that rank the categories and items of the logs of tests."""

from __future__ import annotations

import torch

from models.networks.next_head import RECENT, NextConfig, NextHead
from models.serving.artifact import script_bytes
from models.serving.rankings import CODES, Ranked
from models.serving.scorer import Scorer, network_spec
from models.targets import Target
from tests.logs import TARGETS, gru_manifest, random_gru

KNOWN = {"category": 7, "item": 40}
"""So many of the names of `tests.logs.shop_log` are in the vocabulary; it has 9 and 50."""


def random_head(what: str, hidden_size: int, recent: int = RECENT, seed: int = 0) -> Ranked:
    """An untrained head: its numbers mean nothing, but depend on all that a trained one's would."""
    named = {CODES[what](f"{what}-{number}"): f"{what}-{number}" for number in range(KNOWN[what])}
    codes = torch.tensor(sorted(named))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        counts = torch.ones(len(codes) + 1)
        config = NextConfig(what, recent=recent)
        head = NextHead(network_spec(TARGETS), hidden_size, codes, counts, config)
        for weights in head.parameters():
            torch.nn.init.normal_(weights, std=0.3)
    return Ranked(script_bytes(head), tuple(named[code] for code in codes.tolist()))


def ranking_scorer(
    version: str = "gru-ranks",
    seed: int = 0,
    whats: tuple[str, ...] = ("category", "item"),
    targets: tuple[Target, ...] = TARGETS,
) -> Scorer:
    """A random GRU, and heads on its states."""
    network = random_gru(seed, targets)
    manifest = gru_manifest(network, version, targets=targets)
    recent = manifest.history_length
    ranked = {what: random_head(what, network.hidden_size, recent, seed) for what in whats}
    return Scorer.of_script(script_bytes(network), manifest, ranked=ranked)
