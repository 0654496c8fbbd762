"""Recalibrations of a served model: swapped in without opening it again, refused once altered."""

import pytest

from models.serving.recalibration import (
    BetaMap,
    Recalibration,
    folder_of,
    write_recalibration,
)
from models.serving.signing import RECALIBRATION_CONTEXT, generate_key, signer
from schemas.control import RecalibrationPublished
from stream.config.settings import Settings
from stream.pipeline.fallback import checked
from stream.worker.reload import ModelFollower
from tests.logs import gru_scorer
from tests.stream.kafka_tools import create_topics, unique
from tests.stream.worker.test_reload import Following, published, tell


@pytest.fixture
async def cluster(kafka, tmp_path):
    """Settings with a topic of models, and what else they may have."""
    topic = unique("models")
    await create_topics(kafka.bootstrap_servers, topic, cleanup_policy="compact")

    def settings(**models):
        return Settings(
            kafka={"bootstrap_servers": kafka.bootstrap_servers},
            topics={"models": topic},
            models_dir=tmp_path,
            models=models,
        )

    return settings


def recalibration(settings, version, signed=None, model="one"):
    """Write a recalibration of a model and return how it is announced."""
    found = Recalibration(
        version=version,
        model_version=model,
        model_digest="0" * 64,
        created_at=1,
        until=1,
        window_ms=1,
        maps={"event": {"churn": BetaMap(1.0, 1.0, 1.0)}},
    )
    sign = None if signed is None else signer(signed, RECALIBRATION_CONTEXT)
    digest, signature = write_recalibration(settings.models_dir, found, sign)
    return RecalibrationPublished(version=version, digest=digest, signature=signature)


@pytest.mark.kafka
async def test_a_recalibration_is_swapped_in_without_opening_the_model(cluster, tmp_path):
    settings = cluster()
    one = recalibration(settings, "r1")
    await tell(settings, ("one", published("one", recalibration=one)))
    load = Scorers()
    follower = ModelFollower(settings, load)
    scorer = await follower.start()
    try:
        assert (scorer.version, scorer.recalibration.version) == ("one", "r1")
        async with Following(follower, checked(scorer)) as following:
            worker = following.worker
            two = recalibration(settings, "r2")
            await tell(settings, ("one", published("one", recalibration=two)))
            await following.until(lambda: worker.swaps == ["one"])
            assert worker.scorer.recalibration.version == "r2"
            # Tampered with: what is in effect stays.
            three = recalibration(settings, "r3")
            path = folder_of(tmp_path, "one") / "r3.json"
            path.write_bytes(path.read_bytes().replace(b"1.0", b"3.0"))
            await tell(settings, ("one", published("one", recalibration=three)))
            await following.until(lambda: follower.refusals == 1)
            assert worker.scorer.recalibration.version == "r2"
            await tell(settings, ("one", published("one")))
            await following.until(lambda: worker.scorer.recalibration is None)
            assert load.loaded == ["one"], "the network is opened once"
    finally:
        await follower.close()


@pytest.mark.kafka
async def test_a_recalibration_needs_the_signature_that_a_model_needs(cluster, tmp_path):
    public = generate_key(tmp_path / "key")
    settings = cluster(trusted_keys=(public,))
    good = recalibration(settings, "signed", tmp_path / "key")
    bad = recalibration(settings, "unsigned")
    await tell(settings, ("one", published("one", recalibration=bad)))
    follower = ModelFollower(settings, Scorers())
    scorer = await follower.start()
    try:
        assert (scorer.version, scorer.recalibration, follower.refusals) == ("one", None, 1)
        async with Following(follower, checked(scorer)) as following:
            await tell(settings, ("one", published("one", recalibration=good)))
            await following.until(lambda: following.worker.swaps == ["one"])
            assert following.worker.scorer.recalibration.version == "signed"
    finally:
        await follower.close()


class Scorers:
    """Opens a real scorer under any version."""

    def __init__(self):
        self.loaded = []

    def __call__(self, published, _settings):
        self.loaded.append(published.version)
        return gru_scorer(published.version)
