"""A topic that is made again while it is being read."""

import pytest
from aiokafka.errors import KafkaConnectionError

from stream.errors import TopicReplaced
from stream.kafka import same_topics
from stream.kafka.same_topics import SameTopics


@pytest.fixture(autouse=True)
def at_every_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(same_topics, "EVERY_S", 0.0)


async def test_another_id_is_an_error_that_names_the_topic() -> None:
    present = {"a": "1", "b": "2"}

    async def ask(_: object) -> dict[str, str]:
        return present

    same = SameTopics(["a", "b", "c"], ask)
    await same.check()
    present = {"a": "1"}  # being deleted
    await same.check()
    present = {"a": "1", "b": "3", "c": "4"}
    with pytest.raises(TopicReplaced, match=r"^b was deleted and created again"):
        await same.check()


async def test_a_cluster_without_an_answer_or_without_ids_is_no_error() -> None:
    answers: list[dict[str, str] | Exception] = [{"a": "1"}, KafkaConnectionError(), {}, {"a": "1"}]

    async def ask(_: object) -> dict[str, str]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    same = SameTopics(["a"], ask)
    while answers:
        await same.check()


async def test_where_it_is_no_error_each_new_id_is_returned_once() -> None:
    answers = [{"a": "1"}, {"a": "2", "b": "1"}, {"a": "2", "b": "1"}, {"a": "2", "b": "2"}]

    async def ask(_: object) -> dict[str, str]:
        return answers.pop(0)

    same = SameTopics(["a", "b"], ask)
    assert [await same.replaced() for _ in range(4)] == [[], ["a"], [], ["b"]]
