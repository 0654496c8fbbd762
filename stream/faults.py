"""Places at which a test may break the worker.

Without `INTENTSTREAM_FAULT` in the environment every place is passed without effect. With it, for
example `after_commit:17:kill`, the process kills itself at the 17th passage of that place. Other
actions: `raise` raises an `InjectedFault`, `stop` suspends the process (SIGSTOP) until somebody
continues it, `hang` never goes on (a coroutine waits for ever, a thread sleeps), `leave` ends the
loop that the place is in without a word. Several faults are separated by commas.
"""

import asyncio
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from stream.errors import SettingsError, StreamError

VARIABLE: Final = "INTENTSTREAM_FAULT"
STAGES: Final = (
    "after_poll",
    "after_scoring",
    "before_commit",
    "in_transaction",
    "after_commit",
    "before_store",
    "after_store",
    "after_ack",
    "after_recovery",
)
"""Boundaries between the steps of a batch, and the end of a recovery."""
LOOPS: Final = ("in_agent", "in_fetch", "in_recovery")
"""Inside what goes round for as long as the worker lives, or a recovery lasts."""
CLOSING: Final = ("in_confirmation",)
"""While a partition closes that has nothing to commit, inside the question whose it is."""
PLACES: Final = STAGES + LOOPS + CLOSING
ACTIONS: Final = ("kill", "raise", "stop", "hang", "leave")


class InjectedFault(StreamError):
    """A test asked for this failure."""


def parse(text: str) -> dict[tuple[str, int], str]:
    """Read `place:passage:action[,...]` as {(place, passage from 1): action}.

    Raises:
        SettingsError: the text has another form or names an unknown place or action.
    """
    faults = {}
    for item in filter(None, text.split(",")):
        place, _, rest = item.partition(":")
        passage, _, action = rest.partition(":")
        if place not in PLACES or not passage.isdecimal() or action not in ACTIONS:
            raise SettingsError(
                f"{VARIABLE}={item!r}: write PLACE:PASSAGE:ACTION with a place of"
                f" {', '.join(PLACES)} and an action of {', '.join(ACTIONS)}"
            )
        faults[place, int(passage)] = action
    return faults


def stage_hook(text: str) -> Callable[[str], str]:
    """Return what is called with a place's name at each passage.

    It returns the action if that is the caller's to perform (`hang`, `leave`), else "".
    """
    if not text:
        return lambda _name: ""
    faults = parse(text)
    passages: Counter[str] = Counter()

    def passed(name: str) -> str:
        passages[name] += 1
        action = faults.get((name, passages[name]), "")
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif action == "raise":
            raise InjectedFault(f"injected at passage {passages[name]} of {name}")
        else:
            return action
        return ""

    return passed


_passed: Final = stage_hook(os.environ.get(VARIABLE, ""))


def stage(name: str) -> bool:
    """Pass a place; whether to leave it without a word."""
    action = _passed(name)
    if action == "hang":
        threading.Event().wait()
    return action == "leave"


async def async_stage(name: str) -> bool:
    """Pass a place of a coroutine; a `hang` holds up it alone, not its event loop."""
    action = _passed(name)
    if action == "hang":
        await asyncio.Event().wait()
    return action == "leave"
