"""Brokers of tests get options by Kafka's own variable, and start without an archive too."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.broker.config import OPTIONS, more_options
from stream.broker.process import command_lines
from tests import jvm
from tests.conftest import Kafka


def test_options_are_split_as_a_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(OPTIONS, '-Xmx1g "-Da=b c"')
    assert more_options() == ("-Xmx1g", "-Da=b c")
    monkeypatch.delenv(OPTIONS)
    assert more_options() == ()


def test_an_archive_is_used_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(jvm, "ARCHIVE", tmp_path / "a folder" / "classes.jsa")
    monkeypatch.setenv(OPTIONS, jvm.short_lived())
    assert more_options() == ("-XX:TieredStopAtLevel=1",)
    jvm.ARCHIVE.parent.mkdir()
    jvm.ARCHIVE.touch()
    monkeypatch.setenv(OPTIONS, jvm.short_lived())
    assert f"-XX:SharedArchiveFile={jvm.ARCHIVE}" in more_options()


@pytest.mark.kafka
def test_the_broker_has_them_behind_its_own(kafka: Kafka) -> None:
    mark = str(kafka.folder)
    (command,) = (line for line in command_lines() if mark in line and "kafka.Kafka" in line)
    assert command.index("-XX:TieredStopAtLevel=1") > command.index("-XX:+UseSerialGC")


@pytest.mark.full
@pytest.mark.kafka
def test_an_archive_that_does_not_fit_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wrong = tmp_path / "classes.jsa"
    wrong.write_bytes(b"no archive")
    monkeypatch.setattr(jvm, "ARCHIVE", wrong)
    monkeypatch.setenv(OPTIONS, jvm.short_lived())
    broker = jvm.EmbeddedKafka(tmp_path / "data")
    try:
        assert broker.start().bootstrap_servers
    finally:
        broker.stop()
