"""Two processes fit what one would have."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.data.split import TRAIN
from models.fitting.distributed import SINGLE, Group, processes
from models.fitting.fit import Progress
from tests.models.fitting.small import fitted, small_examples

SCRIPT = """
import json, sys
from pathlib import Path
from models.errors import TrainingError
from models.fitting.distributed import processes
from tests.models.fitting.small import fitted, small_examples
from tests.models.fitting.test_distributed import beside_targets
with processes() as group:
    network, news = fitted(None, dropout=0.0, group=group, examples=small_examples())
    beside = beside_targets(group)
    try:
        fitted(None, group=group, examples=small_examples(60 + group.rank))
    except TrainingError as error:
        refusal = str(error)
    if group.leads:
        losses = [[n.train_loss, n.stopping_loss] for n in [*news, *beside]]
        Path(sys.argv[1]).write_text(json.dumps([group.size, losses, refusal]))
    else:
        assert news == []
"""


def beside_targets(group: Group) -> list[Progress]:
    """A fit with the next-action loss, of which the last batch has one window: for one process."""
    examples = small_examples()
    windows = len(np.unique(examples.start[examples.of_slice(TRAIN)]))
    return fitted(
        None,
        dropout=0.0,
        group=group,
        examples=examples,
        next_action_weight=0.5,
        windows=windows - 1,
        epochs=6,
    )[1]


@pytest.mark.full
def test_two_processes_have_the_loss_of_one_and_must_have_the_same_events(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SCRIPT)
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
            *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0"),
            *(str(program), str(tmp_path / "out")),
        ],
        cwd=root,
        env={"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    size, losses, refusal = json.loads((tmp_path / "out").read_text())
    assert size == 2
    assert "do not have the same events: give files" in refusal
    news = [*fitted(None, dropout=0.0)[1], *beside_targets(SINGLE)]
    assert len(losses) == len(news) == 9
    for (train, stopping), one in zip(losses, news, strict=True):
        assert train == pytest.approx(one.train_loss, rel=1e-4)
        assert stopping == pytest.approx(one.stopping_loss, rel=1e-4)


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with processes() as group:
        assert group is SINGLE
        assert group.leads
