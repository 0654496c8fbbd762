"""Model files that were tampered with: refused before anything of them is opened.

The attacker can write the models folder and announce what he likes; he has not the signing key.
Where models are not signed, digests made to fit must still not get a pickle executed.
"""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from models.serving.artifact import GOLDEN_FILE, MODEL_FILE, script_bytes, sha256
from models.serving.manifest import MANIFEST_FILE, Manifest, read_manifest
from models.serving.registry import Registry
from models.serving.scorer import make_golden
from models.serving.signing import SIGNATURE_FILE, generate_key, signer, write_signature
from models.serving.unpacking import GOLDEN_BYTES
from schemas.events import Event
from schemas.outputs import Prediction
from stream.kafka.announce import announce
from tests.e2e.shop import put, wait_until
from tests.e2e.world import Worker, World
from tests.faults.ledger import FaultRow, Scale
from tests.logs import gru_manifest, random_gru, shop_log

pytestmark = pytest.mark.kafka

ROW, NAME = 12, "model file: pickle canary, truncated, swapped, unsigned, wrong schema, folder gone"

MORE = 40

AUDIT = """
import os, sys
def compiled():
    frame = sys._getframe(2)
    while frame is not None:
        if os.path.join("numba", "core", "") in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False
def hook(event, arguments):
    if event == "pickle.find_class" and not compiled():
        with open(os.environ["UNPICKLED"], "a") as file:
            print(*arguments, file=file)
sys.addaudithook(hook)
"""


class Canary:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


class NoNetwork(torch.nn.Module):
    """A scripted module with none of a network's methods."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Raises(torch.nn.Module):
    """A scripted network that raises in its warm-up, by TorchScript's own error."""

    @torch.jit.export
    def encode(self, ids: torch.Tensor, nums: torch.Tensor, length: torch.Tensor) -> torch.Tensor:
        raise ValueError("no such shop")


@dataclass
class Models:
    """The folder of models, as its owner and as an attacker use it."""

    world: World
    canary: Path
    key: Path
    signed: bool

    @property
    def registry(self) -> Registry:
        return Registry(self.world.settings.models_dir)

    def publish(self, version: str) -> Path:
        """A good model, which is not announced."""
        network = random_gru(0)
        manifest = gru_manifest(network, version, time.time_ns() // 1_000_000)
        script = script_bytes(network)
        sign = signer(self.key) if self.signed else None
        self.registry.publish(manifest, script, make_golden(script, manifest), sign)
        return self.registry.path(version)

    def announce(self, version: str, **changes: object) -> None:
        """Announce what lies in the folder, or what the attacker says lies there."""
        manifest = gru_manifest(random_gru(0), version, time.time_ns() // 1_000_000)
        model = self.registry.path(version) / MODEL_FILE
        found = model.read_bytes() if model.is_file() else b""
        manifest = msgspec.structs.replace(manifest, digests={MODEL_FILE: sha256(found)}, **changes)
        settings = self.world.settings
        if self.registry.path(version).is_symlink():
            # Where there is no folder to read a signature from the announcement has none.
            settings = settings.model_copy(update={"models_dir": self.canary.with_name("none")})
        asyncio.run(announce(settings, manifest))

    def fit_digests(self, folder: Path, **changes: object) -> Manifest:
        """Make the manifest agree with the files beside it."""
        manifest = read_manifest(folder)
        digests = {name: sha256((folder / name).read_bytes()) for name in manifest.digests}
        manifest = msgspec.structs.replace(manifest, digests=digests, **changes)
        (folder / MANIFEST_FILE).write_bytes(msgspec.json.encode(manifest))
        return manifest

    def put_script(self, folder: Path, module: torch.nn.Module) -> None:
        """Put another module in place of the network, with digests and signature that fit."""
        (folder / MODEL_FILE).write_bytes(script_bytes(module))
        self.fit_digests(folder)
        if self.signed:
            self.sign(folder, self.key)

    def sign(self, folder: Path, key: Path) -> None:
        write_signature(folder, signer(key)((folder / MANIFEST_FILE).read_bytes()))


Spoil = Callable[[Models, Path], None]


def pickled(models: Models) -> bytes:
    return pickle.dumps(Canary(models.canary))


def pickle_as_model(models: Models, folder: Path) -> None:
    (folder / MODEL_FILE).write_bytes(pickled(models))
    models.fit_digests(folder)


def torch_pickle_as_model(models: Models, folder: Path) -> None:
    torch.save(Canary(models.canary), folder / MODEL_FILE)
    models.fit_digests(folder)


def pickle_in_golden(models: Models, folder: Path) -> None:
    packed = io.BytesIO()
    np.savez(packed, allow_pickle=True, ids=np.array([Canary(models.canary)], object))
    (folder / GOLDEN_FILE).write_bytes(packed.getvalue())
    models.fit_digests(folder)


def pickle_as_manifest(models: Models, folder: Path) -> None:
    (folder / MANIFEST_FILE).write_bytes(pickled(models))


def pickle_as_signature(models: Models, folder: Path) -> None:
    (folder / SIGNATURE_FILE).write_bytes(pickled(models))
    (folder / MODEL_FILE).write_bytes(pickled(models))


def truncated(_: Models, folder: Path) -> None:
    model = folder / MODEL_FILE
    model.write_bytes(model.read_bytes()[:-100])


def other_weights(models: Models, folder: Path) -> None:
    shutil.copy(models.registry.path("good") / GOLDEN_FILE, folder / GOLDEN_FILE)
    (folder / MODEL_FILE).write_bytes(script_bytes(random_gru(1)))


def other_model(models: Models, folder: Path) -> None:
    shutil.rmtree(folder)
    shutil.copytree(models.registry.path("good"), folder)


def wrong_schema(models: Models, folder: Path) -> None:
    models.fit_digests(folder, schema=99)
    if models.signed:
        models.sign(folder, models.key)


def no_network(models: Models, folder: Path) -> None:
    """Of another release, say: its signature is right."""
    models.put_script(folder, NoNetwork())


def raising(models: Models, folder: Path) -> None:
    models.put_script(folder, Raises())


def without_means(models: Models, folder: Path) -> None:
    """Not used before the first alert."""
    models.fit_digests(folder, reference_profile=())
    if models.signed:
        models.sign(folder, models.key)


def zeros_in_golden(models: Models, folder: Path) -> None:
    """Small, and harmless if it were unpacked, but beyond the bound."""
    np.savez_compressed(folder / GOLDEN_FILE, ids=np.zeros(GOLDEN_BYTES // 8))
    models.fit_digests(folder)
    if models.signed:
        models.sign(folder, models.key)


def loop_of_links(_: Models, folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.name)


def gone(_: Models, folder: Path) -> None:
    shutil.rmtree(folder)


def unsigned(_: Models, folder: Path) -> None:
    (folder / SIGNATURE_FILE).unlink()


def signed_by_a_stranger(models: Models, folder: Path) -> None:
    stranger = models.canary.with_name("stranger")
    generate_key(stranger)
    models.sign(folder, stranger)


def signature_of_another(models: Models, folder: Path) -> None:
    shutil.copy(models.registry.path("good") / SIGNATURE_FILE, folder / SIGNATURE_FILE)


def refitted(models: Models, folder: Path) -> None:
    """Other weights with digests and golden vector that fit: only a signature tells."""
    network = random_gru(1)
    script = script_bytes(network)
    (folder / MODEL_FILE).write_bytes(script)
    golden = make_golden(script, read_manifest(folder))
    np.savez(folder / GOLDEN_FILE, allow_pickle=False, **golden)
    models.fit_digests(folder)


ALWAYS: list[Spoil] = [
    pickle_as_model,
    torch_pickle_as_model,
    pickle_in_golden,
    pickle_as_manifest,
    pickle_as_signature,
    truncated,
    other_weights,
    other_model,
    wrong_schema,
    no_network,
    raising,
    without_means,
    zeros_in_golden,
    loop_of_links,
    gone,
]
PICKLES = [*ALWAYS[:4], raising, loop_of_links]
SIGNED: list[Spoil] = [unsigned, signed_by_a_stranger, signature_of_another, refitted]


@dataclass
class Shop:
    """A worker, its events, and the model that scores them."""

    world: World
    models: Models
    environment: dict[str, str]
    worker: Worker
    log: Iterator[Event]
    sent: int = 0
    scored: Counter[str] = field(default_factory=Counter)

    def events_are_scored_by(self, version: str) -> None:
        put(self.world, [next(self.log) for _ in range(MORE)])
        self.sent += MORE
        self.world.wait_committed(self.sent)
        found = self.world.read(self.world.settings.topics.propensity, Prediction)
        assert len({(p.source.partition, p.source.offset) for p in found}) == self.sent
        assert Counter(p.model_version for p in found) == self.scored + Counter({version: MORE})
        self.scored[version] += MORE

    def refused(self, version: str) -> bool:
        lines = [line for line in self.worker.said().splitlines() if f"model={version} " in line]
        assert all("is refused; the one before it goes on" in line for line in lines), lines
        return bool(lines)

    def restart(self) -> None:
        self.worker.stop()
        self.worker = self.world.start_worker(**self.environment)


@pytest.fixture(params=["signed", "unsigned"])
def shop(
    world: Callable[..., World], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Shop]:
    """A running worker that serves the model "good", and tells of everything it unpickles.

    Except for the compiled kernels, which lie beside the code and are as trusted.
    """
    key, unpickled, audit = (tmp_path / name for name in ("key", "unpickled", "site"))
    generate_key(key)
    signed = request.param == "signed"
    trust = {"trusted_keys": [f"{key}.pub"]} if signed else {}
    made = world(worker={"clock": "event", "emit": "every", "device": "cpu"}, models=trust)
    models = Models(made, tmp_path / "canary", key, signed)
    pickle.loads(pickled(models))  # noqa: S301  # once, to see that it would be noticed
    models.canary.rmdir()
    models.publish("good")
    models.announce("good")
    audit.mkdir()
    (audit / "sitecustomize.py").write_text(AUDIT)
    environment = {"PYTHONPATH": str(audit), "UNPICKLED": str(unpickled)}
    running = made.start_worker(**environment)
    yield Shop(made, models, environment, running, iter(shop_log(47, 2_000)))
    assert not models.canary.exists()
    assert not unpickled.exists(), unpickled.read_text()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_tampered_model_is_refused_and_the_old_one_serves(
    shop: Shop, fault_row: FaultRow, scale: Scale
) -> None:
    models = shop.models
    shop.events_are_scored_by("good")
    for spoil in [*ALWAYS, *SIGNED] if models.signed else scale(PICKLES, ALWAYS):
        with fault_row.attempt():
            version = spoil.__name__.replace("_", "-")
            spoil(models, models.publish(version))
            models.announce(version)
            wait_until(partial(shop.refused, version))
            assert not models.canary.exists()
            shop.events_are_scored_by("good")
    with fault_row.attempt():
        # All of them are still announced: one that starts now refuses each of them again.
        shop.restart()
        shop.events_are_scored_by("good")
    shop.worker.stop()


def test_without_the_models_folder_the_old_one_serves(
    shop: Shop, tmp_path: Path, fault_row: FaultRow
) -> None:
    models, folder = shop.models, shop.world.settings.models_dir
    shop.events_are_scored_by("good")
    with fault_row.attempt() as attempt:
        models.publish("later")
        folder.rename(tmp_path / "away")
        models.announce("later")
        wait_until(lambda: shop.refused("later"))
        shop.events_are_scored_by("good")
        # A worker that starts now has nothing to load and says so in every prediction.
        shop.restart()
        shop.events_are_scored_by("rhythm-1")
        (tmp_path / "away").rename(folder)
        with attempt.recovering():
            models.announce("later")
            wait_until(lambda: "model is swapped" in shop.worker.said())
        shop.events_are_scored_by("later")
    shop.worker.stop()
