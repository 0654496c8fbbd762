"""Refuses to go on where a topic was deleted and created again while no worker looked.

The partition's own record notes the id of the source, the local state that of the changelog. One
without an id is of an earlier release, and takes the present one.
"""

from aiokafka import TopicPartition

from stream.errors import TopicReplaced
from stream.kafka.topic_ids import replaced
from stream.storage.store import RocksStore


def check_source(
    tp: TopicPartition, noted: dict[str, str], state_offset: int, present: dict[str, str]
) -> None:
    """Check that the source is the topic that the state was built from.

    Args:
        tp: source partition.
        noted: topic -> id, of the partition's record.
        state_offset: next offset of that topic.
        present: topic -> id, as the broker says.

    Raises:
        TopicReplaced: it is another one, whose first events would be skipped.
    """
    if tp.topic in replaced(noted, present):
        raise TopicReplaced(
            f"{tp.topic}-{tp.partition}: the state was built up to offset {state_offset} of a topic"
            f" with id {noted[tp.topic]}, and the topic has id {present[tp.topic]} now: it was"
            " deleted and created again; nothing is changed: use a new app_id, which reads the new"
            " topic from its beginning"
        )


def check_changelog(store: RocksStore, changelog: str, present: dict[str, str]) -> None:
    """Check that the changelog is the one that the local state continues.

    Args:
        store: the local state.
        changelog: its topic.
        present: topic -> id, as the broker says.

    Raises:
        TopicReplaced: it is another one, which must not replace the last good copy.
    """
    noted = store.changelog_id
    if noted and changelog in replaced({changelog: noted}, present):
        raise TopicReplaced(
            f"{store.path} holds the state up to offset {store.changelog_offset} of a changelog"
            f" {changelog} with id {noted}, and the topic has id {present[changelog]}"
            " now: it was deleted and created again; both are left as they are: use a new app_id"
            " and replay the events, or move the folder away to go on with what the new changelog"
            " holds"
        )
