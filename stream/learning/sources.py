"""Where a training round gets its events: the source topic, or files."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from models.log.eventlog import LogParts
from models.log.names import Names, Row, catalogue
from models.log.spool import Spool
from models.money import AS_THEY_COME
from stream.config.settings import Settings
from stream.kafka.erased import read_erased
from stream.kafka.rates import current_rates
from stream.learning.logreader import Count, KafkaLog, read_files
from stream.replay.adapter import AS_FOUND, Wanted


class Source(Protocol):
    """Where events come from."""

    in_arrival_order: bool
    """Whether events come as a worker sees them, so that its late ones can be told."""

    @property
    def refused(self) -> dict[str, int]:
        """What was read and is no valid event, by reason."""
        ...

    @property
    def names(self) -> dict[str, Names]:
        """Names of what is to be ranked (train.rank), from the events that were read."""
        ...

    @property
    def position(self) -> dict[str, int]:
        """Where reading goes on, for `go_on`."""
        ...

    def read(self, count: Count | None) -> LogParts:
        """All events there are now, but for those that were dropped."""
        ...

    def drop(self) -> None:
        """Give up what was read: it is kept in another form."""
        ...

    def go_on(self, position: Mapping[str, int], names: Mapping[str, list[Row]], /) -> None:
        """Begin at a position of another process, with the names that it had come upon."""
        ...


class FromKafka:
    """The source topic, up to its end."""

    in_arrival_order = True

    def __init__(self, settings: Settings) -> None:
        """Keep what was read for the next round."""
        self._log = KafkaLog(settings)
        self.refused = self._log.refused
        self.names = self._log.names

    def read(self, count: Count | None) -> LogParts:
        """Fetch what is new since the last call; return everything that was not dropped."""
        return asyncio.run(self._log.read(count))

    @property
    def position(self) -> dict[str, int]:
        """Next offsets."""
        return self._log.position

    def drop(self) -> None:
        """Give up what was read."""
        self._log.drop()

    def go_on(self, position: Mapping[str, int], names: Mapping[str, list[Row]]) -> None:
        """Begin at these offsets, with these names."""
        self._log.go_on(position)
        for what in self.names:
            self.names[what] = Names(names.get(what, ()))


@dataclass(frozen=True)
class FromFiles:
    """Files of events, in any order."""

    paths: tuple[Path, ...]
    format_name: str = "jsonl"
    settings: Settings | None = None
    """With a broker: users who asked it to be forgotten are left out."""
    wanted: Wanted = AS_FOUND
    """How the files write dates and decimals, where they do not tell by themselves."""
    refused: dict[str, int] = field(default_factory=dict)
    names: dict[str, Names] = field(default_factory=dict)
    in_arrival_order = False

    def read(self, count: Count | None) -> LogParts:
        """Read all files."""
        settings = self.settings
        stored_id = str if settings is None else settings.privacy.stored_id
        spool = Spool(None if settings is None else settings.data_dir)
        self.refused.clear()
        wanted = () if settings is None else settings.train.rank
        self.names.update(catalogue(what for what in wanted if what not in self.names))
        self.refused.update(
            read_files(
                spool,
                self.paths,
                self.format_name,
                count,
                stored_id,
                self.names,
                self.wanted,
                AS_THEY_COME if settings is None else asyncio.run(current_rates(settings)),
            )
        )
        if settings is not None and settings.kafka.bootstrap_servers:
            spool.forget(asyncio.run(read_erased(settings)).keep)
        return spool

    @property
    def position(self) -> dict[str, int]:
        """Files are read from their beginning."""
        return {}

    def drop(self) -> None:
        """Nothing is kept between reads."""

    def go_on(self, _: Mapping[str, int], names: Mapping[str, list[Row]]) -> None:
        """Of files read again, what was taken in already is passed over by its time."""
        self.names.update({what: Names(rows) for what, rows in names.items()})
