"""The jars of the embedded broker: locked, downloaded, checked."""

from pathlib import Path

import pytest

from stream.broker.jars import cache_folder, classpath, locked_jars
from stream.errors import BrokerError


def test_every_locked_jar_has_a_digest():
    jars = locked_jars()
    assert "org.apache.kafka:kafka_2.13:4.3.1" in jars
    assert all(len(digest) == 64 for digest in jars.values())


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "intentstream"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert Path.home() in cache_folder().parents


@pytest.mark.kafka
def test_a_damaged_jar_is_downloaded_again(monkeypatch, tmp_path, cached):
    name = "org/slf4j/slf4j-api/1.7.36/slf4j-api-1.7.36.jar"
    monkeypatch.setattr(
        "stream.broker.jars.locked_jars",
        lambda: {key: value for key, value in jars.items() if "slf4j-api" in key},
    )
    jars = locked_jars()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    damaged = tmp_path / "intentstream" / "maven" / name
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"half a j")
    said: list[str] = []
    assert classpath(said.append) == str(damaged)
    assert damaged.stat().st_size > 10_000
    assert len(said) == 1


def test_a_jar_that_is_not_the_locked_one_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("stream.broker.jars.locked_jars", lambda: {"a:b:1": "0" * 64})
    monkeypatch.setattr("stream.broker.jars._download", lambda *_: _write(tmp_path))
    with pytest.raises(BrokerError, match=r"a:b:1 is not the file"):
        classpath(lambda _: None)
    assert not list(tmp_path.rglob("*.jar"))


def _write(cache: Path) -> None:
    jar = cache / "intentstream" / "maven" / "a" / "b" / "1" / "b-1.jar"
    jar.parent.mkdir(parents=True)
    jar.write_bytes(b"not it")


def test_a_failed_download_names_the_jar_and_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("stream.broker.jars.locked_jars", lambda: {"a:b:1": "0" * 64})
    monkeypatch.setattr(
        "jgo.maven.MavenContext.project", lambda *_: (_ for _ in ()).throw(OSError("no route"))
    )
    with pytest.raises(BrokerError, match=r"cannot download a:b:1.*no route.*--bootstrap-servers"):
        classpath(lambda _: None)
