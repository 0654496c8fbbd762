"""Whose folder it is: new ones are marked, one's own is opened, all others are refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from stream.errors import StoreCorrupt, StoreForeign
from stream.storage.store_identity import StoreIdentity, check_identity
from stream.storage.store_options import StoreMemory, open_database

IDENTITY = StoreIdentity("app", "app.users.changelog", 1, 4)


def check(path: Path, wanted: StoreIdentity, damage: str = "") -> None:
    database = open_database(path, StoreMemory().options())
    try:
        check_identity(database, path, wanted, damage)
    finally:
        database.close()


def put(path: Path, key: bytes, value: bytes) -> None:
    database = open_database(path, StoreMemory().options())
    database.put(key, value)
    database.close()


def stored(path: Path) -> dict[bytes, bytes]:
    database = open_database(path, StoreMemory().options())
    found = dict(database.items())
    database.close()
    return found


def test_a_new_folder_is_marked_and_known_again(tmp_path):
    check(tmp_path / "db", IDENTITY)
    ((key, value),) = stored(tmp_path / "db").items()
    assert key == b"\x00identity"
    assert msgspec.json.decode(value, type=StoreIdentity) == IDENTITY
    check(tmp_path / "db", IDENTITY)
    assert stored(tmp_path / "db") == {key: value}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("app_id", "other"),
        ("changelog", "other.changelog"),
        ("partition", 2),
        ("partitions", 8),
        ("layout", 2),
    ],
)
def test_any_difference_is_told_with_both_sides(tmp_path, field, value):
    check(tmp_path / "db", IDENTITY)
    other = msgspec.structs.replace(IDENTITY, **{field: value})
    with pytest.raises(StoreForeign) as refused:
        check(tmp_path / "db", other)
    assert str(IDENTITY) in str(refused.value)
    assert str(other) in str(refused.value)
    assert str(tmp_path / "db") in str(refused.value)
    check(tmp_path / "db", IDENTITY)


def test_a_database_without_an_identity_is_somebody_elses(tmp_path):
    put(tmp_path / "db", b"ua", b"state, perhaps")
    with pytest.raises(StoreForeign, match="not intentstream's"):
        check(tmp_path / "db", IDENTITY)
    assert stored(tmp_path / "db") == {b"ua": b"state, perhaps"}


@pytest.mark.parametrize("value", [b"", b"{", b"\xff", b'{"app_id":1}', b"[]"])
def test_an_identity_that_cannot_be_read_is_damage(tmp_path, value):
    put(tmp_path / "db", b"\x00identity", value)
    with pytest.raises(StoreCorrupt, match="unreadable identity"):
        check(tmp_path / "db", IDENTITY)


def test_known_damage_comes_before_the_question_whose_it_is(tmp_path):
    check(tmp_path / "db", IDENTITY)
    other = msgspec.structs.replace(IDENTITY, partition=3)
    with pytest.raises(StoreCorrupt, match="the manifest is cut"):
        check(tmp_path / "db", other, damage="the manifest is cut")
