import asyncio
import os
import threading
from dataclasses import dataclass, field

import msgspec
import pytest
import torch
from aiokafka import AIOKafkaProducer

from models.errors import ArtifactError
from models.serving.artifact import GOLDEN_FILE, MODEL_FILE, script_bytes
from models.serving.manifest import MANIFEST_FILE
from models.serving.registry import Registry
from models.serving.scorer import Scorer, make_golden
from models.serving.signing import SIGNATURE_FILE, generate_key
from schemas.codec import encode
from schemas.control import ModelPublished
from stream.config.secure_settings import ModelSettings
from stream.config.settings import Settings
from stream.errors import WorkerError
from stream.kafka.announce import announce, announcement, read_announced, withdraw
from stream.pipeline.rollout import Trials
from stream.worker.reload import ModelFollower, load_model
from tests.logs import gru_manifest, random_gru
from tests.patience import PATIENCE_S
from tests.stream.kafka_tools import create_topics, unique


@dataclass
class Model:
    version: str
    device: str = "cpu"


@dataclass
class FakeWorker:
    scorer: Model
    swaps: list = field(default_factory=list)
    trials: Trials = field(default_factory=Trials)

    async def replace_scorer(self, scorer):
        self.scorer = scorer
        self.swaps.append(scorer.version)

    async def replace_trials(self, trials):
        self.trials = trials


class Loader:
    def __init__(self, *bad):
        self.bad = set(bad)
        self.loaded = []

    def __call__(self, published, _settings):
        if published.version in self.bad:
            raise ArtifactError(f"{published.version}: digest differs")
        self.loaded.append(published.version)
        return Model(published.version)


def published(version, **changes):
    base = ModelPublished(
        version=version,
        digest="0" * 64,
        uri=version,
        architecture="gru",
        feature_version="1",
        metrics={},
        published_at=1,
    )
    return msgspec.structs.replace(base, **changes)


@pytest.fixture
async def settings(kafka, tmp_path):
    topic = unique("models")
    await create_topics(kafka.bootstrap_servers, topic, cleanup_policy="compact")
    return Settings(
        kafka={"bootstrap_servers": kafka.bootstrap_servers},
        topics={"models": topic},
        models_dir=tmp_path,
        worker={"device": "cpu"},
    )


async def tell(settings, *messages):
    async with AIOKafkaProducer(**settings.kafka.client_options()) as producer:
        for key, value in messages:
            raw = value if value is None or isinstance(value, bytes) else encode(value)
            await producer.send_and_wait(settings.topics.models, key=key.encode(), value=raw)


@pytest.fixture
async def follow(settings):
    followers = []

    async def start(load):
        follower = ModelFollower(settings, load)
        followers.append(follower)
        return follower, await follower.start()

    yield start
    for follower in followers:
        await follower.close()


class Following:
    def __init__(self, follower, scorer):
        self.follower = follower
        self.worker = FakeWorker(scorer)

    async def __aenter__(self):
        self.task = asyncio.create_task(self.follower.run(self.worker))
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.wait({self.task})

    async def until(self, condition):
        async with asyncio.timeout(PATIENCE_S):
            while not condition():  # noqa: ASYNC110  # state of another task
                await asyncio.sleep(0.02)


@pytest.mark.kafka
async def test_nothing_published_is_none(follow):
    _, scorer = await follow(Loader())

    assert scorer is None


@pytest.mark.kafka
async def test_the_newest_champion_is_taken_others_are_not(settings, follow):
    await tell(
        settings,
        ("one", published("one")),
        ("two", published("two")),
        ("quiet", published("quiet", rollout="shadow")),
        ("few", published("few", rollout="canary", canary_share=0.1)),
        ("one", published("one", published_at=5)),
    )

    _, scorer = await follow(Loader())

    assert scorer.version == "one"


@pytest.mark.kafka
async def test_a_bad_newest_model_leaves_the_one_before(settings, follow):
    await tell(
        settings, ("one", published("one")), ("bad", published("bad")), ("junk", b"no message")
    )

    follower, scorer = await follow(Loader("bad"))

    assert scorer.version == "one"
    assert follower.refusals == 2


@pytest.mark.kafka
async def test_a_withdrawn_model_is_not_served(settings, follow):
    await tell(settings, ("one", published("one")), ("two", published("two")), ("two", None))

    _, scorer = await follow(Loader())

    assert scorer.version == "one"


@pytest.mark.kafka
async def test_new_champions_are_swapped_in_and_bad_ones_are_not(settings, follow):
    await tell(settings, ("one", published("one")))
    follower, scorer = await follow(Loader("bad"))

    async with Following(follower, scorer) as following:
        await tell(settings, ("two", published("two")))
        await following.until(lambda: following.worker.swaps == ["two"])
        await tell(settings, ("bad", published("bad")))
        await following.until(lambda: follower.refusals == 1)
        await tell(settings, ("two", published("two")), ("three", published("three")))
        await following.until(lambda: following.worker.scorer.version == "three")
        # Announcing an old version again is a way back.
        await tell(settings, ("one", published("one")))
        await following.until(lambda: following.worker.scorer.version == "one")


@pytest.mark.kafka
async def test_canary_and_shadow_come_change_share_fail_and_are_rolled_back(settings, follow):
    few = published("few", rollout="canary", canary_share=0.1)
    await tell(
        settings,
        ("one", published("one")),
        ("old", published("old", rollout="canary", canary_share=0.5)),
        ("few", few),
        ("bad", published("bad", rollout="shadow")),
    )
    follower, scorer = await follow(Loader("bad"))
    assert scorer.version == "one"
    assert (follower.trials.versions(), follower.trials.share) == (("few", None), 0.1)

    async with Following(follower, scorer) as following:
        worker = following.worker
        worker.trials = follower.trials
        await tell(
            settings,
            ("quiet", published("quiet", rollout="shadow")),
            ("few", msgspec.structs.replace(few, canary_share=0.3)),
        )
        await following.until(lambda: worker.trials.versions() == ("few", "quiet"))
        await following.until(lambda: worker.trials.share == 0.3)
        # What fails is not loaded again before it is announced anew.
        follower.fails("quiet", "no such kernel")
        worker.trials = worker.trials.without("quiet")
        await withdraw(settings, "few", "worse than the champion")
        await following.until(lambda: worker.trials.versions() == ("old", None))
        await withdraw(settings, "old", "no longer wanted")
        await following.until(lambda: not worker.trials)
        await tell(settings, ("few", published("few")))
        await following.until(lambda: worker.scorer.version == "few")
        await withdraw(settings, "few", "a champion can be taken back too")
        await following.until(lambda: worker.scorer.version == "one")


@pytest.mark.kafka
async def test_a_missing_topic_ends_the_start(settings):
    gone = settings.model_copy(
        update={"topics": settings.topics.model_copy(update={"models": unique("none")})}
    )
    follower = ModelFollower(gone, Loader(), timeout_s=2)

    with pytest.raises(WorkerError, match="topics check"):
        await follower.start()
    await follower.close()


def make(settings, version="gru-1"):
    network = random_gru(0)
    manifest = gru_manifest(network, version, created_at=1)
    script = script_bytes(network)
    return Registry(settings.models_dir).publish(manifest, script, make_golden(script, manifest))


@pytest.mark.full
@pytest.mark.kafka
async def test_a_real_model_is_verified_and_loaded(settings):
    await announce(settings, make(settings, "gru-0"), "canary", 0.25)
    await announce(settings, make(settings))
    announced = await read_announced(settings)
    assert (announced.role("gru-1"), announced.role("gru-0")) == ("champion", "canary 25.0%")
    follower = ModelFollower(settings)

    scorer = await follower.start()
    await follower.close()

    assert scorer.version == "gru-1"
    assert follower.trials.canary.version == "gru-0"


@pytest.mark.slow
def test_a_model_is_opened_where_and_as_the_settings_say(tmp_path, monkeypatch):
    asked = []
    load = Scorer.load

    def noted(folder, device, **how):
        asked.append((device, how["precision"]))
        return load(folder, device, **how)

    monkeypatch.setattr(Scorer, "load", noted)
    settings = Settings(models_dir=tmp_path, worker={"device": "cpu", "precision": "half"})
    load_model(announcement(make(settings)), settings)
    assert asked == [("cpu", "half")]


@pytest.mark.slow
def test_models_that_must_not_be_served_are_refused(tmp_path):
    settings = Settings(models_dir=tmp_path, worker={"device": "cpu"})
    announced = announcement(make(settings))
    assert load_model(announced, settings).version == "gru-1"
    small = settings.model_copy(
        update={"state": settings.state.model_copy(update={"hidden_size": 1})}
    )
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "link").symlink_to(outside)

    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "there").symlink_to("back")
    (tmp_path / "back").symlink_to("there")
    os.mkfifo(tmp_path / "pipe")

    for wrong, where in [
        (msgspec.structs.replace(announced, uri="loop"), settings),
        (msgspec.structs.replace(announced, uri="there/deeper"), settings),
        (msgspec.structs.replace(announced, uri="pipe"), settings),
        (msgspec.structs.replace(announced, uri="n" * 300), settings),
        (msgspec.structs.replace(announced, digest="0" * 64), settings),
        (msgspec.structs.replace(announced, version="other"), settings),
        (msgspec.structs.replace(announced, uri="gone"), settings),
        (msgspec.structs.replace(announced, uri="link"), settings),
        (announced, small),
    ]:
        with pytest.raises(ArtifactError):
            load_model(wrong, where)


@pytest.mark.slow
@pytest.mark.parametrize("name", [MODEL_FILE, MANIFEST_FILE, GOLDEN_FILE, SIGNATURE_FILE])
@pytest.mark.parametrize("kind", ["loop", "pipe", "device", "folder"])
def test_file_that_is_none_is_refused(tmp_path, name, kind):
    settings = Settings(models_dir=tmp_path, data_dir=tmp_path / "data", worker={"device": "cpu"})
    announced = announcement(make(settings))
    path = tmp_path / "gru-1" / name
    path.unlink(missing_ok=True)
    if kind == "loop":
        path.symlink_to(name)
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    generate_key(tmp_path / "key")
    trust = ModelSettings(trusted_keys=(tmp_path / "key.pub",), require_signature=False)
    with pytest.raises(ArtifactError, match=name):
        load_model(announced, settings.model_copy(update={"models": trust}))


class Odd(Exception):
    """No error that anybody foresaw."""


@pytest.mark.kafka
@pytest.mark.parametrize("error", [torch.jit.Error("odd"), Odd("odd"), MemoryError("odd")])
async def test_whatever_loading_raises_is_a_refusal(settings, follow, error):
    def load(published, _settings):
        if published.version == "bad":
            raise error
        return Model(published.version)

    await tell(settings, ("one", published("one")), ("bad", published("bad")))
    await tell(settings, ("quiet", published("bad", rollout="shadow")))
    follower, scorer = await follow(load)

    assert scorer.version == "one"
    assert follower.refusals == 1
    async with Following(follower, scorer) as following:
        await tell(settings, ("bad", published("bad")), ("two", published("two")))
        await following.until(lambda: following.worker.scorer.version == "two")


@pytest.mark.kafka
async def test_model_that_never_opens_is_refused(settings):
    limited = ModelSettings.model_construct(load_limit_ms=50)
    release = threading.Event()

    def load(published, _settings):
        if published.version == "slow":
            release.wait()
        return Model(published.version)

    await tell(settings, ("one", published("one")), ("slow", published("slow")))
    follower = ModelFollower(settings.model_copy(update={"models": limited}), load)
    scorer = await follower.start()
    release.set()
    await follower.close()

    assert (scorer.version, follower.refusals) == ("one", 1)
