"""The truth of a simulated shop as a Parquet file, which `simulate --truth` writes.

A module of its own, since pyarrow is no dependency of a plain install.
"""

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from stream.simulate.plan import Plan, SimulateError
from stream.simulate.truth import Truth, user_id

__all__ = ["load_truth", "save_truth"]


def save_truth(truth: Truth, path: Path) -> None:
    """Write a Parquet file with a row per user; the plan is in its metadata.

    Raises:
        SimulateError: it cannot be written.
    """
    columns: dict[str, Any] = {
        "user_id": [user_id(index) for index in range(len(truth.first))],
        **{field.name: getattr(truth, field.name) for field in fields(truth)[1:]},
    }
    table = pa.table(columns)
    plan = msgspec.json.encode(asdict(truth.plan))
    try:
        pq.write_table(table.replace_schema_metadata({b"intentstream.plan": plan}), path)
    except OSError as error:
        raise SimulateError(f"cannot write the truth to {path}: {error}") from error


def load_truth(path: Path) -> Truth:
    """Read what `save_truth` wrote.

    Raises:
        SimulateError: the file is missing or is no truth file.
    """
    try:
        table = pq.read_table(path)
        plan = msgspec.json.decode(table.schema.metadata[b"intentstream.plan"], type=Plan)
        names = [field.name for field in fields(Truth)[1:]]
        return Truth(plan, *(table[name].to_numpy() for name in names))
    except (OSError, pa.ArrowException, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise SimulateError(f"{path} is no truth file of `simulate --truth`: {error}") from error
