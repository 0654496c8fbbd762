"""Whose data a RocksDB folder holds."""

from pathlib import Path
from typing import Final

import msgspec
import rocksdict

from stream.errors import StoreCorrupt, StoreForeign
from stream.storage.damage import translated

LAYOUT: Final = 1
_IDENTITY_KEY: Final = b"\x00identity"


class StoreIdentity(msgspec.Struct, frozen=True):
    """Whose data a folder holds. Any difference makes it unusable for this partition."""

    app_id: str
    changelog: str
    partition: int
    partitions: int
    layout: int = LAYOUT

    def __str__(self) -> str:
        return (
            f"app {self.app_id}, changelog {self.changelog}, partition {self.partition} of"
            f" {self.partitions}, layout {self.layout}"
        )


def check_identity(
    database: rocksdict.Rdict, path: Path, wanted: StoreIdentity, damage: str
) -> None:
    """Refuse what is damaged or not ours; mark what is new as ours."""
    if damage:
        raise StoreCorrupt(f"{path} is damaged: {damage}")
    with translated(path):
        stored = database.get(_IDENTITY_KEY)
        if stored is None:
            if next(iter(database.keys()), None) is not None:
                raise StoreForeign(
                    f"{path} holds a RocksDB database that is not intentstream's: use another"
                    " data_dir"
                )
            database.put(_IDENTITY_KEY, msgspec.json.encode(wanted))
            return
    try:
        found = msgspec.json.decode(stored, type=StoreIdentity)
    except msgspec.MsgspecError as error:
        raise StoreCorrupt(f"{path}: unreadable identity of the data folder: {error}") from error
    if found != wanted:
        raise StoreForeign(
            f"{path} holds the state of {found}, but this worker needs {wanted}: use another"
            " data_dir or app_id, or remove the folder (it is restored from the changelog)"
        )
