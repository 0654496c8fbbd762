"""`intentstream train`, `tune` and `models` as commands: what they do, and how they say no."""

import asyncio
import importlib.util
import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from models.serving.registry import Registry
from schemas.codec import decode
from schemas.control import ModelPublished
from stream.config.durations import DAY_MS
from stream.kafka.announce import announcement
from stream.learning.sources import FromFiles
from stream.learning.trainer import run_round
from tests.conftest import Kafka
from tests.models.shop import DAY
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, produce, unique
from tests.stream.training_tools import Cli, first_record, settings_for

pytestmark = pytest.mark.slow


class TestCommands:
    def test_train_list_show_verify(self, tmp_path: Path, jsonl: Path, cli: Cli) -> None:
        models = ("--models-dir", str(tmp_path / "models"))
        data = ("--data-dir", str(tmp_path / "data"))
        config = tmp_path / "settings.toml"
        config.write_text("[train]\nepochs = 1\nmin_windows = 50\narchitecture = 'logistic'\n")
        horizons = ("--purchase-horizon", "3d", "--churn-horizon", "10d")
        out, _ = cli(
            *("train", "--from", str(jsonl), "--no-announce", "--device", "cpu"),
            *(*horizons, *models, *data, "--config", str(config), "--json", "-"),
        )
        manifest = json.loads(out)
        version = manifest["version"]
        assert [t["horizon_ms"] for t in manifest["targets"]] == [3 * DAY_MS, 10 * DAY_MS]
        assert version in cli("models", "list", *models)[0]
        shown, _ = cli("models", "show", version, *models)
        assert "recency" in shown
        as_json, _ = cli("models", "show", version, "--json", *models)
        assert json.loads(as_json) == manifest
        assert "golden vector are right" in cli("models", "verify", *models)[0]
        script = tmp_path / "models" / version / "model.pt"
        script.write_bytes(script.read_bytes()[:-1])
        _, refused = cli("models", "verify", *models, code=1)
        assert f"{version}: REFUSED" in refused
        assert "truncated or altered" in refused

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("train", "--from", "nowhere.jsonl"), "no such file: nowhere.jsonl"),
            (("train", "--from", "kafka", "--from", "x"), "cannot be mixed with files"),
            (("train", "--from", "x", "--every", "soon"), "--every: 'soon' is no duration"),
            (("train", "--from", "x", "--every", "0s"), "--every: 0s is too short: at least 1s"),
            (("train", "--from", "x", "--every", "0"), "--every: 0 is too short"),
            (("train", "--from", "x", "--until", "soon"), "'soon' is no time"),
            (("models", "show", "v9"), "no model 'v9'"),
            (("models", "verify"), "run `intentstream train`"),
        ],
    )
    def test_mistakes_give_one_clear_line(
        self, tmp_path: Path, cli: Cli, arguments: tuple[str, ...], message: str
    ) -> None:
        _, err = cli(*arguments, "--models-dir", str(tmp_path / "none"), code=1)
        assert message in err
        assert err.count("\n") == 1

    def test_an_empty_registry_is_said_so(self, tmp_path: Path, cli: Cli) -> None:
        assert "no model in" in cli("models", "list", "--models-dir", str(tmp_path))[1]


@pytest.mark.kafka
def test_a_published_model_can_be_announced_again(
    kafka: Kafka, tmp_path: Path, jsonl: Path, cli: Cli
) -> None:
    topic = unique("events")
    asyncio.run(create_topics(kafka.bootstrap_servers, f"{topic}-models"))
    settings = settings_for(tmp_path / "models", kafka, topic)
    done = run_round(settings, FromFiles((jsonl,)), device="cpu", announced=False)
    config = tmp_path / "settings.toml"
    config.write_text(f"[topics]\nmodels = '{topic}-models'\n")
    version = done.manifest.version
    cli(
        *("models", "promote", version, "--config", str(config)),
        *("--models-dir", str(settings.models_dir)),
        *("--bootstrap-servers", kafka.bootstrap_servers),
    )
    message = asyncio.run(first_record(kafka.bootstrap_servers, f"{topic}-models"))
    assert decode(ModelPublished, message.value) == announcement(done.manifest)


@pytest.mark.full
@pytest.mark.kafka
def test_every_repeats_until_it_is_told_to_stop(
    kafka: Kafka, tmp_path: Path, shop: list[tuple[bytes, bytes]]
) -> None:
    topic = unique("events")
    names = (topic, f"{topic}-models", f"{topic}-erase")
    asyncio.run(create_topics(kafka.bootstrap_servers, *names))
    config = tmp_path / "settings.toml"
    config.write_text(
        f"[topics]\nevents = '{topic}'\nmodels = '{topic}-models'\nerase = '{topic}-erase'\n"
        "[train]\nepochs = 1\nmin_windows = 50\narchitecture = 'logistic'\n"
        "[worker]\ncheck_partitioner = false\n"
    )
    with subprocess.Popen(
        [
            *(sys.executable, "-c", "from stream.cli.main import main; main()"),
            *("train", "--every", "1s", "--config", str(config), "--device", "cpu"),
            *("--bootstrap-servers", kafka.bootstrap_servers),
            *("--models-dir", str(tmp_path / "models"), "--data-dir", str(tmp_path / "data")),
            *("--purchase-horizon", "3d", "--churn-horizon", "10d"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        guard = threading.Timer(90, process.kill)
        guard.start()
        assert process.stderr is not None
        assert process.stdout is not None
        refused = ""
        while "event log is empty" not in refused:
            refused = process.stderr.readline()
            assert refused
        assert "trying again in 1s" in refused
        drain = threading.Thread(target=process.stderr.read)
        drain.start()
        asyncio.run(produce(kafka.bootstrap_servers, topic, shop))
        while "published" not in (line := process.stdout.readline()):
            assert line
        process.terminate()
        process.stdout.read()
        drain.join()
        assert process.wait(PATIENCE_S) == 0
        guard.cancel()
    versions = Registry(tmp_path / "models").versions()
    assert versions
    assert all(np.char.isalnum(version[0]) for version in versions)


class TestTune:
    @pytest.mark.full
    def test_the_best_settings_can_be_trained_with(
        self, tmp_path: Path, jsonl: Path, cli: Cli
    ) -> None:
        config, best = tmp_path / "settings.toml", tmp_path / "best.toml"
        config.write_text(
            f"data_dir = '{tmp_path}'\nmodels_dir = '{tmp_path / 'models'}'\n"
            "[train]\nmin_windows = 50\npurchase_horizon_ms = '3d'\nchurn_horizon_ms = '10d'\n"
        )
        arguments = ("tune", "--from", str(jsonl), "--architecture", "logistic", "--trials", "3")
        out, err = cli(*arguments, "--config", str(config), "--toml", str(best))
        assert err.count("trial ") == 3
        assert "logistic_penalty = " in out
        config.write_text(config.read_text() + best.read_text().removeprefix("[train]\n"))
        out, _ = cli("train", "--from", str(jsonl), "--no-announce", "--config", str(config))
        assert "published" in out

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--for", "soon"), "--for: 'soon' is no duration"),
            (("--architecture", "oracle"), "architecture"),
            (("--from", "nowhere.jsonl"), "no such file"),
        ],
    )
    def test_mistakes_give_one_clear_line(
        self, jsonl: Path, cli: Cli, arguments: tuple[str, ...], message: str
    ) -> None:
        more = () if "--from" in arguments else ("--from", str(jsonl))
        _, err = cli("tune", *arguments, *more, code=1)
        assert message in err
        assert err.count("\n") == 1


LINE = '{"event_id": "e%d", "type": "%s", "user_id": "u%d", "event_time": %d}'
DAYS_100 = range(0, 100 * DAY, DAY)


@pytest.mark.parametrize(
    ("lines", "settings", "message"),
    [
        ([], "", "the event log is empty"),
        (["{", "null"], "", "no event can be used of 2 read: 1 invalid, truncated; 1 invalid"),
        (
            [LINE % (t, "view", t % 7, 1_600_000_000 + t) for t in range(2_400)],
            "",
            "2,400 invalid, event_time looks like seconds; milliseconds since 1970 are needed",
        ),
        (
            [LINE % (t, "view", t % 7, 1_600_000_000_000 + t) for t in DAYS_100],
            "",
            "one class only",
        ),
        (
            [LINE % (t, "purchase", 1, 1_600_000_000_000 + t) for t in range(0, 20 * DAY, DAY)],
            "",
            "too little for a horizon",
        ),
        (
            [LINE % (t, "purchase", 1, 1_600_000_000_000 + t) for t in range(0, 20 * DAY, DAY)],
            "",
            "train.churn_horizon_ms",
        ),
        ([], "[train]\narchitecture = 'oracle'\n", "train.architecture"),
        ([], "[train]\nprecision = 'float8'\n", "train.precision"),
        ([], "[train]\nmlflow_uri = 'file:///nowhere'\n", "pip install 'intentstream[mlflow]'"),
    ],
    ids=[
        "empty",
        "no event",
        "seconds",
        "one class",
        "horizon",
        "setting of the horizon",
        "architecture",
        "precision",
        "mlflow",
    ],
)
def test_bad_input_ends_with_one_line_and_nothing_published(
    tmp_path: Path, cli: Cli, lines: list[str], settings: str, message: str
) -> None:
    if "mlflow" in settings and importlib.util.find_spec("mlflow"):
        pytest.skip("mlflow is installed")
    events, config = tmp_path / "events.jsonl", tmp_path / "settings.toml"
    events.write_text("\n".join(lines))
    places = f"data_dir = '{tmp_path / 'data'}'\nmodels_dir = '{tmp_path / 'models'}'\n"
    config.write_text(places + (settings or "[train]\nmin_windows = 5\n"))
    _, err = cli("train", "--from", str(events), "--no-announce", "--config", str(config), code=1)
    assert message in err
    # What comes before is the progress of reading.
    assert err.splitlines()[-1].startswith("intentstream: ")
    assert "Traceback" not in err
    assert not (tmp_path / "models").exists()


def test_a_damaged_checkpoint_is_refused(tmp_path: Path, jsonl: Path, cli: Cli) -> None:
    config = tmp_path / "settings.toml"
    config.write_text(
        f"data_dir = '{tmp_path}'\nmodels_dir = '{tmp_path / 'models'}'\n[train]\n"
        "min_windows = 50\npurchase_horizon_ms = '3d'\nchurn_horizon_ms = '10d'\n"
    )
    (tmp_path / "fits").mkdir()
    (tmp_path / "fits" / "gru.fit").write_bytes(b"intentstream checkpoint 1\n" + b"0" * 200)
    arguments = ("train", "--from", str(jsonl), "--no-announce", "--resume")
    _, err = cli(*arguments, "--config", str(config), code=1)
    assert "gru.fit is damaged" in err
    assert "train without --resume" in err
    assert not (tmp_path / "models").exists()
