"""The how-to pages work: each is followed to the letter on a copy of the project."""

from __future__ import annotations

import json

import pytest

from stream.config.loading import load_settings
from tests.examples.following import ROOT, edits_of, follow, passed, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def with_format(tmp_path_factory):
    return follow("add-a-format.md", tmp_path_factory.mktemp("format"))


@pytest.fixture(scope="module")
def with_architecture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("architecture")
    return follow("add-a-model-architecture.md", folder, "docs/settings.md")


@pytest.fixture(scope="module")
def with_topic(tmp_path_factory):
    folder = tmp_path_factory.mktemp("topic")
    return follow("add-a-topic.md", folder, "docs/settings.md", "schemas/generated")


@pytest.mark.parametrize(
    "page", ["add-a-format.md", "add-a-model-architecture.md", "add-a-topic.md"]
)
def test_no_edit_of_a_page_touches_the_project(page, with_format, with_architecture, with_topic):
    for edit in edits_of(page):
        source = ROOT / edit.path
        assert source.exists() == (edit.language == "diff")


@pytest.mark.full
def test_the_page_on_formats_has_a_test_that_passes(with_format):
    assert passed(with_format, "tests/stream/replay/test_till.py")


def test_the_commands_offer_the_new_format(with_format):
    shown = run(with_format, "stream.cli.main", "produce", "--help")
    assert "jsonl|till>" in shown.stdout


def test_a_file_of_the_new_format_is_recognised(with_format):
    file = with_format / "till.csv"
    file.write_text("card,time,receipt,article,pieces,amount\n", encoding="utf-8")
    code = (
        "from pathlib import Path\n"
        "from stream.replay.report import Report\n"
        "from stream.replay.source import read_rows\n"
        "list(read_rows(Path('till.csv'), 'rees46', Report()))\n"
    )
    (with_format / "recognised.py").write_text(code, encoding="utf-8")
    done = run(with_format, "recognised")
    assert "not rees46 but till: pass --format till" in done.stderr


@pytest.mark.full
def test_the_page_on_architectures_has_a_test_that_passes(with_architecture):
    assert passed(with_architecture, "tests/models/checks/test_decay.py")


def test_the_settings_accept_the_new_architecture(with_architecture):
    file = with_architecture / "shop.toml"
    file.write_text('[train]\narchitecture = "decay"\n', encoding="utf-8")
    checked = run(with_architecture, "stream.cli.main", "config", "check", str(file))
    assert checked.returncode == 0, checked.stderr
    words = ("config", "reference", "--out", "docs/settings.md")
    assert run(with_architecture, "stream.cli.main", *words).returncode == 0
    assert '"decay"' in (with_architecture / "docs" / "settings.md").read_text(encoding="utf-8")


@pytest.mark.full
def test_the_new_topic_is_in_contract_layout_and_acls(with_topic):
    generated = run(with_topic, "stream.cli.main", "schemas", "generate")
    assert generated.returncode == 0, generated.stdout + generated.stderr
    folder = with_topic / "schemas" / "generated"
    assert json.loads((folder / "low-stock.schema.json").read_text("utf-8"))["title"] == "Low Stock"
    document = json.loads((folder / "asyncapi.json").read_text("utf-8"))
    assert document["channels"]["low_stock"]["address"] == "alerts.low-stock"
    code = (
        "from stream.config.loading import load_settings\n"
        "from stream.kafka.topics import required_topics\n"
        "print([t.name for t in required_topics(load_settings()) if t.partitions == 1][-1])\n"
    )
    (with_topic / "layout.py").write_text(code, encoding="utf-8")
    assert run(with_topic, "layout").stdout.strip() == "alerts.low-stock"
    for component in ("topics-admin", "worker"):
        words = ("deploy.acls.rights", component, "User:someone")
        assert "alerts.low-stock" in run(with_topic, *words).stdout
    assert passed(with_topic, "tests/schemas/test_generate.py")


def test_the_project_itself_knows_none_of_the_toys():
    topics = load_settings().topics
    assert "alerts.low-stock" not in topics.model_dump().values()
