"""The contract: what is on the wire. Knows neither models nor Kafka."""

from __future__ import annotations
