"""What a worker's process is made of."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
import stream.worker.service
print(*sys.modules)
"""


@pytest.mark.full
def test_a_worker_loads_nothing_that_only_training_needs():
    """It would cost each start half a second, and tens of megabytes for as long as it runs."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert {"torch", "models.serving.scorer"} <= loaded
    assert not loaded & {"pyarrow", "duckdb", "sklearn", "optuna", "captum", "tensorboard"}
    assert not loaded & {"models.training.train", "models.fitting.fit", "models.data.dataset"}
