"""The private attributes of Faust and of mode, which it is made of, that this product uses.

All of them are here, as those of aiokafka are in `aiokafka_private.py`: pyproject.toml bounds the
versions, and the test module of this one tries each function with the real libraries. What a
subclass overrides is not among them.
"""

from __future__ import annotations

from typing import Any, cast

from mode import Service
from mode.types import ServiceT

__all__ = ["has_actor", "is_stopped"]


def is_stopped(service: ServiceT) -> bool:
    """Whether a service was told to stop; `should_stop` is true of a crashed one too."""
    return cast("Service", service)._stopped.is_set()


def has_actor(agent: Any) -> bool:
    """Whether one of an agent's actors runs; nothing public tells of one that just ended."""
    return any(actor.actor_task and not actor.actor_task.done() for actor in list(agent._actors))
