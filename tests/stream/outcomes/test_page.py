"""The pages of `intentstream outcomes`."""

import asyncio
import json
import signal
import socket
import sys
import urllib.error
import urllib.request

import pytest
from pydantic import ValidationError

from schemas.monitoring import ModelMetrics, PopulationMetrics, RankingMetrics, TargetMetrics
from stream.config.settings import Settings
from stream.errors import WorkerError
from stream.kafka.topics import create_topics
from stream.outcomes.page import OutcomePages
from tests.patience import PATIENCE_S
from tests.stream.kafka.test_topics import settings_for
from tests.stream.kafka_tools import unique

NOW = 1_700_000_000_000
MINUTE = 60_000
TOKEN = "a-token-of-the-test"


class Judging:
    """A service that has judged one model."""

    def __init__(self):
        self.metrics = []
        self.published_at = None

    def publish(self):
        self.published_at = NOW
        target = TargetMetrics(
            total=900,
            matured=500,
            base_rate=0.2,
            log_loss=0.4,
            base_log_loss=0.5,
            ece=0.01,
            auc=0.81,
            populations={
                "timer": PopulationMetrics(
                    matured=40,
                    users=30,
                    base_rate=0.5,
                    log_loss=0.6,
                    base_log_loss=0.69,
                    ece=0.04,
                    ece_chance=0.05,
                )
            },
        )
        ranking = RankingMetrics(total=70, judged=60, hit_rate=0.5, ndcg=0.25, last_hit_rate=0.125)
        self.metrics = [
            ModelMetrics(
                model_version="m1",
                targets={"purchase": target},
                updated_at=NOW,
                event_time=NOW,
                alarms=["drift of scores"],
                stability={"score.purchase": 0.3},
                rankings={"category": ranking},
            )
        ]


class Site:
    def __init__(self, **worker):
        self.judging, self.now = Judging(), NOW
        settings = Settings(
            outcomes={"http_port": 0, "publish_ms": MINUTE}, worker={"http_port": 1, **worker}
        )
        self.pages = OutcomePages(settings, self.judging, lambda: self.now)
        self.pages.start()

    def get(self, path, **headers):
        return get(self.pages.port, path, **headers)


def get(port, path, **headers):
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def site():
    made = []

    def make(**worker):
        made.append(Site(**worker))
        return made[-1]

    yield make
    for each in made:
        each.pages.close()


def test_it_is_ready_while_figures_are_published(site):
    it = site()
    status, body = it.get("/health")
    assert status == 503
    assert json.loads(body) == {"ready": False, "published_at": None, "models": [], "alarms": []}
    it.judging.publish()
    it.now = NOW + 3 * MINUTE
    status, body = it.get("/health")
    assert status == 200
    found = json.loads(body)
    assert (found["models"], found["alarms"]) == (["m1"], ["m1: drift of scores"])
    it.now += 1
    assert it.get("/health")[0] == 503


def test_figures_are_metrics(site):
    it = site()
    assert "intentstream_outcomes_ready 0.0" in it.get("/metrics")[1]
    it.judging.publish()
    status, text = it.get("/metrics")
    assert status == 200
    assert "intentstream_outcomes_ready 1.0" in text
    assert 'intentstream_model_auc{model="m1",target="purchase"} 0.81' in text
    assert 'intentstream_model_matured{model="m1",target="purchase"} 500.0' in text
    assert 'intentstream_model_alarms{model="m1"} 1.0' in text
    assert 'intentstream_model_stability{model="m1",of="score.purchase"} 0.3' in text
    assert "intentstream_model_lift{" not in text, "what cannot be told is left out"
    apart = '{model="m1",population="timer",target="purchase"}'
    assert f"intentstream_population_ece{apart} 0.04" in text
    assert f"intentstream_population_ece_chance{apart} 0.05" in text
    assert "intentstream_population_auc{" not in text
    labels = '{model="m1",ranking="category"}'
    assert f"intentstream_ranking_judged{labels} 60.0" in text
    assert f"intentstream_ranking_hit_rate{labels} 0.5" in text
    assert f"intentstream_ranking_ndcg{labels} 0.25" in text
    assert f"intentstream_ranking_last_hit_rate{labels} 0.125" in text
    assert "process_resident_memory_bytes" in text


def test_the_workers_token_guards_them(site):
    it = site(http_token=TOKEN)
    assert it.get("/metrics")[0] == 401
    assert it.get("/metrics", Authorization=f"Bearer {TOKEN}")[0] == 200
    with pytest.raises(ValidationError, match="set http_token"):
        Settings(outcomes={"http_port": 0}, worker={"http_host": "0.0.0.0"})  # noqa: S104


def test_a_port_that_is_taken_is_told_by_the_name_of_its_setting(site):
    settings = Settings(outcomes={"http_port": site().pages.port})
    with pytest.raises(WorkerError, match=r"choose another outcomes\.http_port"):
        OutcomePages(settings, Judging()).start()


@pytest.mark.full
@pytest.mark.kafka
async def test_the_command_serves_them_until_it_is_stopped(kafka, tmp_path):
    settings = settings_for(kafka.bootstrap_servers, unique("outcomes"), partitions=1)
    await create_topics(settings)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    topics = settings.topics.model_dump()
    config = tmp_path / "settings.toml"
    lines = [f"{name} = {json.dumps(value)}" for name, value in topics.items()]
    config.write_text("\n".join(["[topics]", *lines, "[outcomes]", f"http_port = {port}"]))
    command = ("-m", "stream.cli.main", "outcomes", "--config", str(config))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, *command, "--bootstrap-servers", kafka.bootstrap_servers),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    status, body = await asyncio.to_thread(get, port, "/health")
                except OSError:
                    assert process.returncode is None, (await process.communicate())[1].decode()
                else:
                    if status == 200:
                        break
                await asyncio.sleep(0.1)
            assert json.loads(body)["published_at"] > NOW
            process.send_signal(signal.SIGTERM)
            await process.communicate()
        assert process.returncode == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()
