from pathlib import Path

import pytest
from pydantic import ValidationError

from models.errors import ArtifactError, SigningError
from models.serving.artifact import script_bytes
from models.serving.manifest import MANIFEST_FILE
from models.serving.registry import Registry
from models.serving.scorer import make_golden
from models.serving.signing import generate_key, read_signature
from stream.config.loading import load_settings
from stream.config.secure_settings import ModelSettings
from stream.config.settings import Settings
from stream.config.trust import manifest_check, model_signer
from stream.kafka.announce import announcement
from stream.worker.reload import load_model
from tests.logs import gru_manifest, random_gru


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "key"
    generate_key(path)
    return path


def test_without_keys_nothing_is_demanded_and_nothing_signed():
    assert manifest_check(ModelSettings()) is None
    assert model_signer(ModelSettings()) is None


def test_signatures_are_required_once_there_are_trusted_keys(key):
    public = Path(f"{key}.pub")
    assert ModelSettings(trusted_keys=[public]).signature_required
    assert not ModelSettings(trusted_keys=[public], require_signature=False).signature_required
    assert not ModelSettings().signature_required
    with pytest.raises(ValidationError, match="trusted_keys to check signatures with"):
        ModelSettings(require_signature=True)


def test_keys_can_be_named_in_one_text(monkeypatch):
    overrides = {"models": {"trusted_keys": "a.pub,b.pub"}}
    assert load_settings(overrides=overrides).models.trusted_keys == (Path("a.pub"), Path("b.pub"))
    monkeypatch.setenv("INTENTSTREAM_MODELS__TRUSTED_KEYS", "a.pub,b.pub")
    assert len(load_settings().models.trusted_keys) == 2


def test_a_key_that_is_gone_is_an_error_not_a_way_around(tmp_path):
    with pytest.raises(SigningError):
        manifest_check(ModelSettings(trusted_keys=[tmp_path / "gone.pub"]))
    with pytest.raises(SigningError):
        model_signer(ModelSettings(signing_key=tmp_path / "gone"))


@pytest.mark.slow
def test_a_worker_serves_what_the_trainers_key_signed_and_nothing_else(tmp_path, key):
    settings = Settings(
        models_dir=tmp_path / "models",
        worker={"device": "cpu"},
        models={"signing_key": key, "trusted_keys": [f"{key}.pub"]},
    )
    registry = Registry(settings.models_dir)
    network = random_gru(0)
    script = script_bytes(network)
    for version, sign in (("signed", model_signer(settings.models)), ("plain", None)):
        manifest = gru_manifest(network, version)
        registry.publish(manifest, script, make_golden(script, manifest), sign)
    told = {
        name: announcement(found, read_signature(registry.path(name)))
        for name, found in registry.manifests()
    }
    assert load_model(told["signed"], settings).version == "signed"
    with pytest.raises(ArtifactError, match="not signed"):
        load_model(told["plain"], settings)
    trusting_nobody = settings.model_copy(update={"models": ModelSettings()})
    assert load_model(told["plain"], trusting_nobody).version == "plain"
    with (registry.path("signed") / MANIFEST_FILE).open("ab") as file:
        file.write(b"\n")
    with pytest.raises(ArtifactError, match="trusted key"):
        load_model(told["signed"], settings)
