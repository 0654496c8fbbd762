"""The table of file formats: the one place where an adapter is named.

`--format` of the commands, and what a wrong format is compared with, follow from it. It imports no
adapter, so that commands can show their choices without loading any.
"""

from importlib import import_module
from typing import Final

from stream.replay.adapter import Adapter
from stream.replay.errors import ReplayError

__all__ = ["FORMATS", "adapter_of"]

FORMATS: Final[dict[str, str]] = {
    "taobao": "stream.replay.taobao:Taobao",
    "rees46": "stream.replay.rees46:Rees46",
    "retailrocket": "stream.replay.retailrocket:RetailRocket",
    "otto": "stream.replay.otto:Otto",
    "online-retail": "stream.replay.online_retail:OnlineRetail",
    "jsonl": "stream.replay.jsonl:JsonLines",
}
"""`--format` -> module and class of the adapter, which has the same `name`."""


def adapter_of(name: str) -> Adapter:
    """Return the adapter of a format.

    Raises:
        ReplayError: there is none; names those there are.
    """
    if name not in FORMATS:
        raise ReplayError(f"unknown format {name!r}: choose from {', '.join(FORMATS)}")
    module, _, adapter = FORMATS[name].partition(":")
    made: Adapter = getattr(import_module(module), adapter)()
    return made
