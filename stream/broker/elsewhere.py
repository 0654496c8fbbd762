"""Embedded brokers of this user, on whatever data folder they run."""

import re
from pathlib import Path
from typing import Final

from stream.broker.cluster import running_servers
from stream.broker.process import command_lines
from stream.errors import BrokerError

_NODE: Final = re.compile(r"(/[^\0]*)/node-\d+/server\.properties")


def running_brokers() -> list[tuple[str, Path]]:
    """Return bootstrap servers and data folder of each cluster that runs, by folder."""
    folders = {
        Path(found[1]) for line in command_lines() for found in _NODE.finditer(line.strip("\0\n"))
    }
    found = []
    for folder in sorted(folders):
        try:
            servers = running_servers(folder)
        except (BrokerError, OSError):
            continue  # of another user, or being deleted
        if servers is not None:
            found.append((servers, folder))
    return found
