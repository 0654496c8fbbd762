"""A fit that is killed goes on and ends with the same bytes; what is damaged is refused."""

from __future__ import annotations

import hashlib
import io
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from models.errors import CheckpointError
from models.fitting.checkpoint import MAGIC, Checkpoint, Counters, Saved, load, save
from tests.models.fitting.small import fitted, weights

pytestmark = pytest.mark.slow

SCRIPT = """
import os, signal, sys
from pathlib import Path
from models.fitting import checkpoint
from tests.models.fitting.small import fitted
kept = checkpoint.save
def save(path, saved):
    kept(path, saved)
    if saved.counters.step >= 11:
        os.kill(os.getpid(), signal.SIGKILL)
import models.fitting.fit
models.fitting.fit.save = save
fitted(checkpoint.Checkpoint(Path(sys.argv[1]), steps=3))
"""


@pytest.mark.full
def test_killed_in_the_middle_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(path)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL
    network, epochs = fitted(Checkpoint(path, steps=3, resume=True))
    whole, all_epochs = fitted(None)
    assert weights(network) == weights(whole)
    # It went on in the middle of an epoch, not from the beginning.
    assert len(all_epochs) > len(epochs) > 0
    assert epochs == all_epochs[-len(epochs) :]


def test_without_resume_the_file_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    path.write_bytes(b"anything")
    network, _ = fitted(Checkpoint(path))
    assert weights(network) == weights(fitted(None)[0])
    assert path.read_bytes().startswith(MAGIC)


def test_a_fit_that_has_ended_gives_its_weights_again(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    first, _ = fitted(Checkpoint(path))
    again, epochs = fitted(Checkpoint(path, resume=True))
    assert weights(again) == weights(first)
    assert epochs == []


def test_the_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fit.ckpt"
    fitted(Checkpoint(path))
    with pytest.raises(CheckpointError, match=r"is of another fit.*without --resume"):
        fitted(Checkpoint(path, resume=True), learning_rate=0.02)


SAVED = Saved(
    Counters("a"), {"w": torch.arange(3.0)}, {"w": torch.ones(3)}, {"0/step": torch.ones(())}
)


def test_what_is_saved_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "fit.ckpt"
    assert load(path, "a") is None
    save(path, SAVED)
    found = load(path, "a")
    assert found is not None
    assert found.counters == SAVED.counters
    assert torch.equal(found.network["w"], SAVED.network["w"])
    assert torch.equal(found.optimiser["0/step"], torch.ones(()))
    assert [p.name for p in path.parent.iterdir()] == ["fit.ckpt"]


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "text"])
def test_damage_is_refused(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "fit.ckpt"
    save(path, SAVED)
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    broken = {"flip": bytes(data), "cut": path.read_bytes()[:-9], "empty": b"", "text": b"x" * 99}
    path.write_bytes(broken[damage])
    with pytest.raises(
        CheckpointError, match=r"(is damaged|is no file of the kind).*remove .*--resume"
    ):
        load(path, "a")


class Canary:
    def __reduce__(self) -> tuple[object, ...]:
        return (pytest.fail, ("unpickled",))


def test_nothing_is_ever_unpickled(tmp_path: Path) -> None:
    """An object array with a right digest: what someone would write who may write the folder."""
    path = tmp_path / "fit.ckpt"
    packed = io.BytesIO()
    np.savez(packed, state=np.array([Canary()], object))
    body = packed.getvalue()
    path.write_bytes(MAGIC + hashlib.sha256(body).hexdigest().encode() + body)
    with pytest.raises(CheckpointError, match="cannot read"):
        load(path, "a")
    path.write_bytes(pickle.dumps(Canary()))
    with pytest.raises(CheckpointError, match="is no file of the kind"):
        load(path, "a")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        save(tmp_path / "file" / "fit.ckpt", SAVED)
