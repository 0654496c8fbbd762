"""Keys, signatures, their checks, and roles taken back, on the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from models.serving.registry import Registry
from models.serving.scorer import make_golden
from stream.cli.main import main
from tests.conftest import Kafka
from tests.models.serving.test_artifact import unpublished
from tests.stream.kafka_tools import create_topics, read_all, unique

Cli = Callable[..., tuple[str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    """Run the program in this process; returns what it wrote to (standard output, error)."""

    def run(*arguments: object, code: int = 0) -> tuple[str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        out, err = capsys.readouterr()
        assert (ended.value.code or 0) == code, err
        return out, err

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    manifest, script = unpublished()
    for version in ("v1", "v2"):
        named = msgspec.structs.replace(manifest, version=version)
        Registry(tmp_path / "models").publish(named, script, make_golden(script, named))
    return tmp_path / "models"


@pytest.mark.slow
def test_keygen_sign_verify(tmp_path: Path, folder: Path, cli: Cli) -> None:
    key, where = tmp_path / "shop", ("--models-dir", folder)
    said, _ = cli("models", "keygen", key)
    assert f"{key}.pub" in said
    assert "PRIVATE" not in said
    assert "BEGIN" not in said
    assert "never overwritten" in cli("models", "keygen", key, code=1)[1]

    assert (
        "v1: digests and golden vector are right, not signed" in cli("models", "verify", *where)[0]
    )
    config = tmp_path / "settings.toml"
    config.write_text(f"[models]\nsigning_key = '{key}'\ntrusted_keys = ['{key}.pub']\n")
    trusting = (*where, "--config", config)
    _, refused = cli("models", "verify", *trusting, code=1)
    assert "v1: REFUSED" in refused
    assert "intentstream models sign v1" in refused

    assert "v1: signed" in cli("models", "sign", "v1", *trusting)[0]
    assert "are right, signature right" in cli("models", "verify", "v1", *trusting)[0]
    assert "signature not checked" in cli("models", "verify", "v1", *where)[0]
    assert "signature right" in cli("models", "verify", "v1", *where, "--key", f"{key}.pub")[0]
    cli("models", "keygen", tmp_path / "stranger")
    cli("models", "sign", "v2", *where, "--key", tmp_path / "stranger")
    _, refused = cli("models", "verify", *trusting, code=1)
    assert "v2: REFUSED" in refused
    assert "v1" not in refused


@pytest.mark.slow
def test_sign_needs_a_key_and_an_undamaged_model(tmp_path: Path, folder: Path, cli: Cli) -> None:
    where = ("--models-dir", folder)
    assert "pass --key" in cli("models", "sign", "v1", *where, code=1)[1]
    key = tmp_path / "key"
    cli("models", "keygen", key)
    assert "no model 'v9'" in cli("models", "sign", "v9", *where, "--key", key, code=1)[1]
    (folder / "v1" / "model.pt").write_bytes(b"x")
    assert "truncated" in cli("models", "sign", "v1", *where, "--key", key, code=1)[1]


def test_what_a_worker_would_refuse_is_not_announced(
    tmp_path: Path, folder: Path, cli: Cli
) -> None:
    key = tmp_path / "key"
    cli("models", "keygen", key)
    config = tmp_path / "settings.toml"
    config.write_text(f"[models]\ntrusted_keys = ['{key}.pub']\n")
    _, refused = cli(
        *("models", "promote", "v1", "--models-dir", folder, "--config", config),
        *("--bootstrap-servers", "127.0.0.1:1"),
        code=1,
    )
    assert "not signed" in refused


@pytest.mark.kafka
def test_a_role_is_taken_back(tmp_path: Path, folder: Path, cli: Cli, kafka: Kafka) -> None:
    topic = unique("models")
    asyncio.run(create_topics(kafka.bootstrap_servers, topic, cleanup_policy="compact"))
    config = tmp_path / "settings.toml"
    config.write_text(f"[topics]\nmodels = '{topic}'\n")
    where = ("--config", config, "--bootstrap-servers", kafka.bootstrap_servers)
    models = ("--models-dir", folder)
    nothing = cli("models", "rollback", *where, code=1)[1]
    assert "no model is announced" in nothing

    cli("models", "promote", "v1", *models, *where)
    cli("models", "promote", "v2", "--to", "canary", "--share", 0.2, *models, *where)
    assert "v9 is not announced" in cli("models", "rollback", "v9", *where, code=1)[1]
    # The canary goes before the champion does.
    said, _ = cli("models", "rollback", "--reason", "it is slow", *where)
    assert said == f"withdrew v2 on {topic}; champion: v1\n"
    last = asyncio.run(read_all(kafka.bootstrap_servers, topic))[-1]
    assert (last.key, last.value) == (b"v2", None)
    assert last.headers == (("reason", b"it is slow"),)
    listed, _ = cli("models", "list", *models, *where)
    rows = [[cell.strip() for cell in line.split("\u2502")] for line in listed.splitlines()]
    # A long cell goes on in rows that name no version.
    roles = {row[1]: row[2] for row in rows if len(row) > 1 and row[1]}
    assert roles == {"v1": "champion", "v2": "-"}

    assert "only champion" in cli("models", "rollback", *where, code=1)[1]
    cli("models", "promote", "v2", *models, *where)
    said, _ = cli("models", "rollback", "v2", *where)
    assert said == f"withdrew v2 on {topic}; champion: v1\n"
    last = asyncio.run(read_all(kafka.bootstrap_servers, topic))[-1]
    assert last.headers == (("reason", b"rolled back by hand"),)
