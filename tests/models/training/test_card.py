"""The card lies in the artifact, under its digests, and says what the manifest knows."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from models.errors import ArtifactError
from models.inputs.segments import Evidence
from models.log.cleaning import Cleaning
from models.serving.artifact import read_document
from models.serving.manifest import SelfSupervision
from models.serving.registry import Registry
from models.serving.scorer import make_golden
from models.training.card import CARD_JSON, CARD_MARKDOWN, Card, card_of
from models.training.gate import GateRules
from models.training.verdict import Check, Verdict
from tests.models.serving.test_artifact import unpublished

CHECK = Check("better than recency", "purchase", "all", True, 0.31, 0.35, -0.05, -0.02, 1234)
VERDICT = Verdict(
    (CHECK,),
    {"purchase": {"orders: 0 to 0": {"roc_auc": 0.52, "log_loss": 0.1, "points": 400.0}}},
    "champion-1",
    {"purchase": {"timer": {"log_loss": 0.2, "ece": 0.04, "ece_chance": 0.05, "users": 77.0}}},
)


def test_it_is_published_with_the_model(tmp_path: Path) -> None:
    manifest, script = unpublished()
    golden = make_golden(script, manifest)
    rules = GateRules(evidence=Evidence(3, 1))
    found = Cleaning(read=1500, duplicates=12, invalid={"truncated": 3})
    manifest = msgspec.structs.replace(manifest, cleaning=found)
    card = card_of(manifest, VERDICT, rules)
    registry = Registry(tmp_path)
    written = registry.publish(manifest, script, golden, documents=card.documents())
    folder = registry.resolve(manifest.version)
    text = read_document(folder, CARD_MARKDOWN, written).decode()
    for part in (
        f"# Model {manifest.version}",
        "Cleaning: read 1,500, duplicates 12, invalid (truncated) 3.",
        "better than recency (purchase, all): 0.3100 against 0.3500, difference -0.0500 to -0.0200",
        "Compared with champion-1.",
        "fewer than 3 events or 1 orders are marked cold_start",
        "For purchase it ranks hardly better than chance in: orders: 0 to 0.",
        "| orders: 0 to 0 | 0.5200 |",
        "| purchase | timer | - | 0.2000 | 0.0400 | 0.0500 | - | - | 77 | - |",
    ):
        assert part in text
    assert msgspec.json.decode(read_document(folder, CARD_JSON, written), type=Card) == card


def test_a_card_that_was_altered_is_not_read(tmp_path: Path) -> None:
    manifest, script = unpublished()
    golden = make_golden(script, manifest)
    documents = card_of(manifest, VERDICT, GateRules()).documents()
    registry = Registry(tmp_path)
    written = registry.publish(manifest, script, golden, documents=documents)
    folder = registry.resolve(manifest.version)
    (folder / CARD_MARKDOWN).write_text("all is well")
    with pytest.raises(ArtifactError, match=r"card\.md: SHA-256"):
        read_document(folder, CARD_MARKDOWN, written)


def test_it_tells_what_was_learnt_without_labels() -> None:
    manifest, _ = unpublished()
    assert "Learnt without labels" not in card_of(manifest, VERDICT, GateRules()).markdown()
    found = SelfSupervision("masked_event", 3, 0.15, 0.1)
    taught = msgspec.structs.replace(manifest, self_supervision=found)
    assert (
        "Learnt without labels: pre-training masked_event (passes: 3, 15% masked), auxiliary"
        " next-action loss of weight 0.1."
    ) in card_of(taught, VERDICT, GateRules()).markdown()
