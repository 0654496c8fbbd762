"""Stage boundaries at which a test may break the worker.

Without `INTENTSTREAM_FAULT` in the environment every stage is a no-op. With it, for example
`after_commit:17:kill`, the process kills itself at the 17th passage of that stage; `raise` raises
an `InjectedFault` there and `stop` suspends the process (SIGSTOP) until somebody continues it.
Several faults are separated by commas.
"""

import os
import signal
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
ACTIONS: Final = ("kill", "raise", "stop")


class InjectedFault(StreamError):
    """A test asked for this failure."""


def parse(text: str) -> dict[tuple[str, int], str]:
    """Read `stage:passage:action[,...]` as {(stage, passage from 1): action}.

    Raises:
        SettingsError: the text has another form or names an unknown stage or action.
    """
    faults = {}
    for item in filter(None, text.split(",")):
        stage_name, _, rest = item.partition(":")
        passage, _, action = rest.partition(":")
        if stage_name not in STAGES or not passage.isdecimal() or action not in ACTIONS:
            raise SettingsError(
                f"{VARIABLE}={item!r}: write STAGE:PASSAGE:ACTION with a stage of"
                f" {', '.join(STAGES)} and an action of {', '.join(ACTIONS)}"
            )
        faults[stage_name, int(passage)] = action
    return faults


def stage_hook(text: str) -> Callable[[str], None]:
    """Return the function that is called with a stage's name at each passage."""
    if not text:
        return lambda _name: None
    faults = parse(text)
    passages: Counter[str] = Counter()

    def passed(name: str) -> None:
        passages[name] += 1
        action = faults.get((name, passages[name]))
        if action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif action == "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        elif action == "raise":
            raise InjectedFault(f"injected at passage {passages[name]} of {name}")

    return passed


stage: Callable[[str], None] = stage_hook(os.environ.get(VARIABLE, ""))
"""Call with the stage's name; a module-level function so that it costs nothing when unused."""
