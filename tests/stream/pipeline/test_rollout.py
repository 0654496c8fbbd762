"""Roles of models, who is served by whom, and a pipeline with a canary and a shadow."""

from __future__ import annotations

import numpy as np
import pytest

from models.serving.scorer import Scorer
from schemas.codec import decode
from schemas.outputs import ChurnAlert, Prediction
from stream.config.settings import Settings
from stream.errors import TrainerError
from stream.pipeline.rollout import Announced, Serving, Trials, in_canary
from stream.testing import PipelineDriver
from tests.logs import DAY, disordered, gru_scorer, shop_log
from tests.stream.worker.test_reload import published

pytestmark = pytest.mark.slow

USERS = [f"user-{n}".encode() for n in range(31)]


@pytest.fixture(scope="module")
def champion() -> Scorer:
    return gru_scorer("champion-1", seed=1)


@pytest.fixture(scope="module")
def other() -> Scorer:
    return gru_scorer("other-1", seed=2)


class TestWhoIsServedByTheCanary:
    def test_the_share_is_right_and_nobody_leaves_when_it_grows(self) -> None:
        users = [b"u%d" % n for n in range(20_000)]
        few = {user for user in users if in_canary(user, "v1", 0.05)}
        more = {user for user in users if in_canary(user, "v1", 0.2)}
        assert len(few) == pytest.approx(1000, rel=0.15)
        assert len(more) == pytest.approx(4000, rel=0.1)
        assert few < more
        assert all(in_canary(user, "v1", 1.0) for user in users)
        assert not any(in_canary(user, "v1", 0.0) for user in users)

    def test_another_canary_has_other_users(self) -> None:
        users = [b"u%d" % n for n in range(20_000)]
        one = {user for user in users if in_canary(user, "v1", 0.2)}
        two = {user for user in users if in_canary(user, "v2", 0.2)}
        assert len(one & two) == pytest.approx(0.04 * len(users), rel=0.2)

    def test_users_are_split_between_the_models(self, champion: Scorer, other: Scorer) -> None:
        parts = dict(Serving(champion, Trials(other, 0.5)).split(USERS, len(USERS)))
        assert set(parts) == {champion, other}
        assert sorted(np.concatenate(list(parts.values()))) == list(range(len(USERS)))
        for row in parts[other]:
            assert in_canary(USERS[row], "other-1", 0.5)

    def test_without_a_canary_no_user_is_looked_at(self, champion: Scorer, other: Scorer) -> None:
        for trials in (Trials(), Trials(shadow=other), Trials(other, 0.0)):
            assert list(Serving(champion, trials).split(iter(()), 3)) == [(champion, None)]


class TestWhatIsAnnounced:
    def test_the_last_word_on_a_version_counts(self) -> None:
        announced = Announced()
        for version, role in [("a", "champion"), ("b", "canary"), ("c", "shadow"), ("d", "canary")]:
            announced.note(version, published(version, rollout=role, canary_share=0.1))
        assert [each.version for each in announced.of("canary")] == ["d", "b"]
        assert (announced.role("b"), announced.role("d")) == ("former canary", "canary 10.0%")
        announced.note("d", None)
        announced.note("c", published("c"))
        assert [each.version for each in announced.of("champion")] == ["c", "a"]
        assert [each.version for each in announced.of("canary")] == ["b"]
        assert announced.of("shadow") == []
        assert (announced.role("d"), announced.role("a")) == ("-", "former champion")

    def test_last_champion_beside_a_shadow_is_told_as_it_is(self) -> None:
        announced = Announced()
        announced.note("a", published("a"))
        announced.note("b", published("b"))
        announced.note("b", published("b", rollout="shadow"))
        with pytest.raises(TrainerError, match=r"a is the only champion .* now \(b is shadow\)"):
            announced.rollback()
        assert announced.rollback("b") == ("b", "a")

    def test_rolling_back_takes_the_canary_first_and_leaves_a_champion(self) -> None:
        announced = Announced()
        with pytest.raises(TrainerError, match="nothing to roll back"):
            announced.rollback()
        announced.note("a", published("a"))
        with pytest.raises(TrainerError, match="only champion"):
            announced.rollback()
        announced.note("b", published("b"))
        assert announced.rollback() == ("b", "a")
        announced.note("c", published("c", rollout="canary", canary_share=0.1))
        assert announced.rollback() == ("c", "b")
        assert announced.rollback("b") == ("b", "a")
        with pytest.raises(TrainerError, match="not announced"):
            announced.rollback("z")


def settings(emit: str = "every") -> Settings:
    return Settings(
        worker={"clock": "event", "emit": emit},
        churn={
            "min_orders": 1,
            "prior_gap_ms": DAY,
            "raise_at": 0.1,
            "resolve_at": 0.01,
            "raise_untrained": True,
        },
    )


def driven(scorer: object, emit: str = "every", batch: int = 50, events: int = 600):
    driver = PipelineDriver(scorer, settings(emit))
    driver.pipe(disordered(shop_log(3, events), 3, 900_000), batch=batch)
    return driver


def identity(message: Prediction | ChurnAlert) -> str:
    return getattr(message, "prediction_id", "") or message.alert_id


Heard = list[Prediction] | list[ChurnAlert]


def assert_same(found: Heard, expected: Heard) -> None:
    """Equal messages, but for the last digits of their probabilities."""

    def told(messages: Heard) -> tuple[list[str], list[float]]:
        names, numbers = [], []
        for message in messages:
            if isinstance(message, ChurnAlert):
                names.append(f"{message.alert_id} {message.model_version} {message.source}")
                numbers.append(message.risk)
            else:
                names.append(f"{message.prediction_id} {message.user_id} {message.state_time}")
                numbers += [score.probability for score in message.targets.values()]
        return names, numbers

    (names, numbers), (wanted, values) = told(found), told(expected)
    assert names == wanted
    assert np.allclose(numbers, values, atol=1e-5)


class TestACanary:
    def test_its_users_are_served_as_if_it_were_the_champion_the_others_as_before(
        self, champion: Scorer, other: Scorer
    ) -> None:
        driver = driven(Serving(champion, Trials(other, 0.4)))
        alone = {model: driven(model) for model in (champion, other)}
        served = {user for user in USERS if in_canary(user, "other-1", 0.4)}
        assert 5 < len(served) < 26
        for kind in ("predictions", "alerts"):
            found = {}
            for message in getattr(driver, kind)():
                found.setdefault(message.user_id, []).append(message)
            assert len(found) > 5
            for user, messages in found.items():
                model = other if user.encode() in served else champion
                expected = [m for m in getattr(alone[model], kind)() if m.user_id == user]
                assert_same(messages, expected)
        counters = driver.pipeline.counters
        assert counters.accepted == alone[champion].pipeline.counters.accepted
        assert counters.alerts == len(driver.alerts())
        assert driver.histories() == alone[champion].histories()

    def test_no_user_goes_back_and_forth_between_the_models(
        self, champion: Scorer, other: Scorer
    ) -> None:
        driver = driven(Serving(champion, Trials(other, 0.4)), batch=7, events=300)
        for user, record in driver.records().items():
            mine = other if in_canary(user.encode(), "other-1", 0.4) else champion
            # A short history is stored without the state that is made of it.
            assert record["model"] == np.uint64(0 if record["n"] <= mine.rebuilds else mine.code)
        # A rebuilt hidden state ends at the same numbers within rounding; whoever alternated
        # would have been rebuilt at every event.
        rebuilt = Counted(champion), Counted(other)
        counted = PipelineDriver(Serving(rebuilt[0], Trials(rebuilt[1], 0.4)), settings())
        counted.pipe(shop_log(4, 300), batch=7)
        assert rebuilt[0].encoded + rebuilt[1].encoded == 0

    def test_results_do_not_depend_on_the_batches(self, champion: Scorer, other: Scorer) -> None:
        serving = Serving(champion, Trials(other, 0.4))
        one, many = (driven(serving, batch=batch, events=400) for batch in (1, 400))
        for kind in ("predictions", "alerts"):
            said = [sorted(getattr(d, kind)(), key=identity) for d in (one, many)]
            assert_same(*said)
            assert said[0]

    def test_after_a_roll_back_the_champion_goes_on(self, champion: Scorer, other: Scorer) -> None:
        log = shop_log(3, 400)
        driver = PipelineDriver(Serving(champion, Trials(other, 1.0)), settings())
        driver.pipe(log[:200])
        driver.pipeline.replace_scorer(Serving(champion))
        driver.pipe(log[200:])
        versions = [p.model_version for p in driver.predictions()]
        assert versions == ["other-1"] * 200 + ["champion-1"] * 200


class TestAShadow:
    @pytest.mark.full
    def test_it_scores_the_last_event_of_each_user_and_changes_nothing(
        self, champion: Scorer, other: Scorer
    ) -> None:
        driver = driven(Serving(champion, Trials(shadow=other)))
        alone = driven(champion)
        # Byte for byte, records included: a shadow touches nothing.
        topics = driver.settings.topics
        shadow = driver.outputs.pop(topics.shadow)
        assert driver.outputs == alone.outputs
        for user, record in driver.records().items():
            assert record.tobytes() == alone.records()[user].tobytes()
        told = [decode(Prediction, value) for _, value in shadow]
        assert {p.model_version for p in told} == {"other-1"}
        # What it says is what it would say as the champion, but for events long gone.
        as_champion = {p.source.offset: p for p in driven(other).predictions()}
        latest = driven(champion, "latest").predictions()
        assert {p.source.offset for p in told} == {p.source.offset for p in latest}
        for prediction in told:
            expected = as_champion[prediction.source.offset]
            assert prediction.state_time == expected.state_time
            if driver.records()[prediction.user_id]["n"] <= other.history_length:
                for name, score in prediction.targets.items():
                    wanted = expected.targets[name].probability
                    assert score.probability == pytest.approx(wanted, abs=2e-5)

    def test_one_that_fails_is_dropped_and_takes_nothing_with_it(
        self, champion: Scorer, other: Scorer
    ) -> None:
        log = shop_log(3, 200)
        driver = PipelineDriver(Serving(champion, Trials(shadow=Broken(other))), settings())
        driver.pipe(log, batch=50)
        assert driver.settings.topics.shadow not in driver.outputs
        alone = PipelineDriver(champion, settings())
        alone.pipe(log, batch=50)
        assert driver.outputs == alone.outputs


class Counted:
    """A scorer that counts the users it rebuilds."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer, self.encoded = scorer, 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._scorer, name)

    def encode(self, *arrays: np.ndarray) -> np.ndarray:
        self.encoded += len(arrays[0])
        return self._scorer.encode(*arrays)


class Broken(Counted):
    """A scorer that raises."""

    def encode(self, *arrays: np.ndarray) -> np.ndarray:
        raise RuntimeError("no such kernel")


def test_trials_lose_the_model_that_fails(champion: Scorer, other: Scorer) -> None:
    trials = Trials(champion, 0.1, other)
    assert trials.without("champion-1") == Trials(shadow=other)
    assert trials.without("other-1") == Trials(champion, 0.1)
    assert not trials.without("other-1").without("champion-1")
