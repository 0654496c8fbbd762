"""What README.md shows works: its links, event, settings, reasons, and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from schemas.channels import CHANNELS
from schemas.codec import decode_event
from schemas.errors import Reason
from schemas.events import TYPE_CODES
from stream.cli.program import command_modules
from stream.config.learning_settings import TrainSettings
from stream.config.loading import load_settings
from stream.config.settings import ChurnSettings, StateSettings, WorkerSettings
from tests.examples.walk import lines_of

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCUMENTS = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    targets = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert targets or name == "CHANGELOG.md"
    assert [link for link in targets if not (ROOT / link.partition("#")[0]).exists()] == []


def test_the_events_shown_are_valid():
    documents = [*blocks("json"), *re.findall(r"echo '[^|]*\|(.*?)'", README)]
    assert len(documents) == 2
    for document in documents:
        assert decode_event(document.encode()).user_id == "ada"


def test_the_settings_shown_are_accepted(tmp_path, monkeypatch):
    monkeypatch.setenv("INTENTSTREAM_KAFKA__SASL_PASSWORD", "secret")
    path = tmp_path / "settings.toml"
    path.write_text(blocks("toml")[0], encoding="utf-8")
    settings = load_settings(path)
    assert settings.topics.partitions == 12
    # The defaults shown are the defaults.
    assert settings.state == StateSettings()
    assert settings.churn == ChurnSettings()
    assert settings.train == TrainSettings()
    assert settings.worker == WorkerSettings()


def test_every_type_reason_and_user_facing_topic_is_named():
    names = {*TYPE_CODES, *(reason.value for reason in Reason)}
    names |= {channel.address for channel in CHANNELS if channel.name in {"events", "churn"}}
    assert {name for name in names if f"`{name}`" not in README} == set()


@pytest.mark.slow
def test_the_commands_shown_exist():
    shown = set(re.findall(r"^intentstream ([a-z-]+)", "\n".join(blocks("sh")), re.MULTILINE))
    shown |= set(re.findall(r"`intentstream ([a-z-]+)", README))
    assert shown
    assert shown <= set(command_modules())


def test_the_tutorials_commands_and_programs_exist():
    lines = lines_of((ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8"))
    shown = {line.split()[1] for line in lines if line.startswith("intentstream ")}
    assert {"broker", "produce", "train", "worker"} <= shown <= set(command_modules())
    files = {word for line in lines for word in line.split() if word.startswith("examples/")}
    assert "examples/csv_to_events.py" in files
    assert {name for name in files if not (ROOT / name).is_file()} == set()


def test_the_tutorials_settings_are_accepted():
    assert load_settings(ROOT / "examples" / "tutorial.toml").train.architecture == "blend"
