"""Dead letters: shown as they are, and brought back at most once whatever happens."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.errors import KafkaTimeoutError

from schemas.codec import decode_event, encode
from schemas.errors import InvalidEvent
from schemas.events import View
from schemas.outputs import Source
from schemas.refused import DeadLetter, dead_letter
from stream.config.settings import Settings
from stream.errors import DeadLetterError
from stream.operations import dlq
from stream.operations.dlq import replay
from stream.operations.forgetting import forget
from stream.operations.letters import Choice, letters, read_repairs, to_line
from stream.pipeline.ingest import partition_of
from tests.e2e.world import World, run_program
from tests.stream.kafka_tools import read_all

NOW = 1_700_000_000_000
VALID = encode(View(event_id="e", user_id="ann", event_time=NOW))


def letter(offset: int, reason: str, value: bytes | None = VALID, **changes: object) -> DeadLetter:
    made = dead_letter(
        Source("shop", offset % 2, offset), b"key", value, InvalidEvent(reason, None, "why"), NOW
    )
    return DeadLetter(**{name: getattr(made, name) for name in made.__struct_fields__} | changes)


def event(number: int) -> bytes:
    return encode(View(event_id=f"e{number}", user_id=f"user-{number}", event_time=NOW))


@pytest.fixture
def world(kafka, tmp_path) -> World:
    return World.make(tmp_path, kafka.bootstrap_servers)


async def post(settings: Settings, *posted: DeadLetter) -> None:
    async with AIOKafkaProducer(**settings.kafka.client_options()) as producer:
        for each in posted:
            await producer.send_and_wait(settings.topics.dead_letter, encode(each), partition=0)


async def events(settings: Settings) -> list[ConsumerRecord]:
    return await read_all(settings.kafka.bootstrap_servers, settings.topics.events)


@pytest.mark.kafka
async def test_letters_are_chosen_by_reason_partition_and_offset(world):
    settings = world.settings
    await post(settings, *(letter(n, r) for n, r in enumerate(["future", "truncated"] * 4)))

    async def found(*choice: object, **more: object) -> list[int]:
        chosen = letters(settings, Choice(*choice, **more))
        return [each.source.offset async for each, _ in chosen]

    assert await found() == list(range(8))
    assert await found(frozenset({"future"})) == [0, 2, 4, 6]
    assert await found(partition=1, first=2, last=5) == [3, 5]


def test_a_line_shows_text_as_text_and_bytes_as_base64():
    shown = json.loads(to_line(letter(3, "future"), replayed=True))
    assert shown["value"] == VALID.decode()
    assert (shown["replayed"], shown["key"]) == (True, "key")
    assert shown["source"] == {"topic": "shop", "partition": 1, "offset": 3}
    binary = json.loads(to_line(letter(3, "not_utf8", b"\xff"), replayed=False))
    assert binary["value_base64"] == "/w=="
    assert "value" not in json.loads(to_line(letter(3, "null_value", None), replayed=False))


@pytest.mark.kafka
async def test_unchanged_letters_go_where_their_users_belong_once(world):
    settings = world.settings
    await post(
        settings,
        letter(0, "wrong_partition", event(0)),
        letter(1, "key_mismatch", event(1)),
        letter(2, "truncated", event(2)[:-4]),
        letter(3, "null_value", None),
        letter(4, "too_large", event(4), clipped=True),
    )
    tried = await replay(settings, Choice(), dry_run=True)
    assert (tried.replayed, await events(settings)) == (2, [])
    told = await replay(settings, Choice())
    assert (told.chosen, told.replayed, told.clipped) == (5, 2, 1)
    assert told.refused == {"truncated": 2}
    back = await events(settings)
    assert {(r.key, r.value, r.partition) for r in back} == {
        (b"user-%d" % n, event(n), partition_of(b"user-%d" % n, 2)) for n in (0, 1)
    }
    again = await replay(settings, Choice())
    assert (again.replayed, again.before) == (0, 2)
    assert len(await events(settings)) == 2
    marks = {each.source.offset: done async for each, done in letters(settings, Choice())}
    assert marks == {0: True, 1: True, 2: False, 3: False, 4: False}


@pytest.mark.kafka
async def test_repaired_letters_come_back_as_they_were_repaired(world, tmp_path):
    settings = world.settings
    posted = [letter(n, "truncated", event(n)[:-4]) for n in range(4)]
    await post(settings, *posted)
    lines = [json.loads(to_line(each, replayed=False)) for each in posted]
    lines[0]["event"] = json.loads(event(0))
    lines[1]["event"] = {"type": "view"}
    lines[3]["source"]["offset"] = 99
    file = tmp_path / "repaired.jsonl"
    file.write_text("\n\n".join(map(json.dumps, lines)))

    told = await replay(settings, Choice(), read_repairs(file))
    assert (told.replayed, told.unrepaired, told.refused) == (1, 1, {"missing_field": 1})
    assert told.unknown == ["shop/1/99"]
    (back,) = await events(settings)
    assert json.loads(back.value) == json.loads(event(0))
    assert (await replay(settings, Choice(), read_repairs(file))).before == 1
    assert len(await events(settings)) == 1


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("nonsense", "line 1: malformed"),
        ('{"event": {}}', 'missing_field .field source.*"event"'),
        (to_line(letter(1, "future"), replayed=False).decode() + "\n", None),
        ((to_line(letter(1, "future"), replayed=False).decode() + "\n") * 2, "line 2: shop/1/1 is"),
    ],
)
def test_a_repair_file_is_read_or_refused_with_its_line(tmp_path: Path, lines, said):
    file = tmp_path / "file"
    file.write_text(lines)
    if said is None:
        assert list(read_repairs(file)) == [Source("shop", 1, 1)]
        return
    with pytest.raises(DeadLetterError, match=said):
        read_repairs(file)


def test_a_missing_repair_file_is_named(tmp_path):
    with pytest.raises(DeadLetterError, match="absent"):
        read_repairs(tmp_path / "absent")


@pytest.mark.kafka
async def test_what_a_broken_replay_left_out_the_next_one_brings(world, monkeypatch):
    settings = world.settings
    await post(settings, *(letter(n, "wrong_partition", event(n)) for n in range(10)))
    monkeypatch.setattr(dlq, "_CHUNK", 4)
    real, sent = AIOKafkaProducer.send, Counter()

    async def failing(producer, topic, *arguments, **options):
        sent[topic] += 1
        if sent[settings.topics.events] == 7:
            raise KafkaTimeoutError
        return await real(producer, topic, *arguments, **options)

    monkeypatch.setattr(AIOKafkaProducer, "send", failing)
    with pytest.raises(DeadLetterError, match="run it again"):
        await replay(settings, Choice())
    assert len(await events(settings)) == 4
    told = await replay(settings, Choice())
    assert (told.before, told.replayed) == (4, 6)
    assert sorted(r.value for r in await events(settings)) == sorted(map(event, range(10)))


@pytest.mark.kafka
async def test_taken_over_between_two_events_it_says_so(world, monkeypatch):
    settings = world.settings
    await post(settings, *(letter(n, "wrong_partition", event(n)) for n in range(10)))
    real, sent = AIOKafkaProducer.send, Counter()

    async def overtaken(producer, topic, *arguments, **options):
        sent[topic] += 1
        if topic == settings.topics.events and sent[topic] == 7:
            async with AIOKafkaProducer(
                transactional_id=f"{settings.app_id}-dlq", **settings.kafka.client_options()
            ):
                await asyncio.wait([await real(producer, topic, *arguments, **options)])
        return await real(producer, topic, *arguments, **options)

    monkeypatch.setattr(AIOKafkaProducer, "send", overtaken)
    with pytest.raises(DeadLetterError, match="taken over"):
        await replay(settings, Choice())
    assert not await events(settings)


@pytest.mark.kafka
async def test_two_at_once_bring_nothing_back_twice(world):
    settings = world.settings
    await post(settings, *(letter(n, "wrong_partition", event(n)) for n in range(200)))
    done = await asyncio.gather(
        *(replay(settings, Choice()) for _ in range(3)), return_exceptions=True
    )
    assert all(isinstance(each, dlq.Replay | DeadLetterError) for each in done), done
    await replay(settings, Choice())
    back = Counter(record.value for record in await events(settings))
    assert back == Counter(map(event, range(200)))


@pytest.mark.kafka
async def test_a_topic_of_another_layout_is_refused(world):
    topics = world.settings.topics.model_copy(update={"partitions": 3})
    await post(world.settings, letter(0, "wrong_partition"))
    with pytest.raises(DeadLetterError, match="has 2 partitions, not 3"):
        await replay(world.settings.model_copy(update={"topics": topics}), Choice())


@pytest.mark.full
@pytest.mark.kafka
def test_the_command_shows_a_table_and_lines_and_brings_back(world):
    asyncio.run(post(world.settings, letter(0, "wrong_partition", event(0)), letter(1, "future")))
    assert "2 dead letters: 1 wrong_partition, 1 future; 0 brought back" in world.run("dlq", "show")
    lines = world.run("dlq", "show", "--json", "--reason", "future").splitlines()
    assert [json.loads(line)["reason"] for line in lines] == ["future"]
    told = json.loads(world.run("dlq", "replay", "--reason", "wrong_partition", "--json"))
    assert told["replayed"] == 1
    assert "1 brought back" in world.run("dlq", "show", "--limit", "1")
    table = world.run("dlq", "replay", "--all", "--dry-run")
    assert "would be brought back" in table

    file = world.folder / "file.jsonl"
    line = json.loads(lines[0])
    line["source"]["offset"] = 77
    file.write_text(json.dumps(line))
    config = ("--config", str(world.config))
    missing = run_program("dlq", "replay", "--from", str(file), *config)
    assert (missing.returncode, "shop/1/77" in missing.stderr) == (1, True)
    nothing = run_program("dlq", "replay", "--reason", "too_deep", *config)
    assert nothing.returncode == 1
    assert "nothing was brought back: 0 dead letters were chosen" in nothing.stderr


@pytest.mark.full
@pytest.mark.kafka
def test_outcomes_without_predictions_exit_with_one(world):
    told = run_program("outcomes", "--once", "--config", str(world.config))
    assert told.returncode == 1
    assert "there is no prediction in" in told.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [(["replay"], "--from FILE"), (["replay", "--reason", "bad"], "no such reason; there are")],
)
def test_the_command_says_what_is_missing(words, said):
    refused = run_program("dlq", *words)
    assert refused.returncode == 1
    assert said in refused.stderr


@pytest.mark.kafka
async def test_nobody_who_asked_to_be_forgotten_is_brought_back(world):
    settings = world.settings
    gone = decode_event(event(0)).user_id
    await post(settings, *(letter(n, "wrong_partition", event(n)) for n in range(4)))
    await forget(settings, [gone], wait_s=0)
    told = await replay(settings, Choice())
    kept = [event(n) for n in range(4) if decode_event(event(n)).user_id != gone]
    assert (told.erased, told.replayed) == (4 - len(kept), len(kept))
    assert sorted(r.value for r in await events(settings)) == sorted(kept)
