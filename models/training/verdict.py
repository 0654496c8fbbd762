"""What the gate found: its checks, and whether a model may be published."""

from __future__ import annotations

import msgspec

from models.errors import TrainingError


class Check(msgspec.Struct, frozen=True):
    """One comparison and how it went."""

    name: str
    """"calibrated", "unbiased", "better than base_rate", "not worse than the champion", ..."""
    target: str
    """Name of the target, or of the question that several answer together (`models.targets`); empty
    for the mean over all of them."""
    segment: str
    """Population ("event", "timer"), segment of users, or "all"."""
    passed: bool
    ours: float
    """Log-loss (or calibration error, or relative bias) of the challenger."""
    theirs: float
    """Of what it is compared with (or what is allowed)."""
    low: float
    """Interval of the difference, ours less theirs."""
    high: float
    points: int

    def __str__(self) -> str:
        where = f"{self.target or 'all targets'}, {self.segment}"
        return (
            f"{self.name} ({where}): {self.ours:.4f} against {self.theirs:.4f},"
            f" difference {self.low:+.4f} to {self.high:+.4f} over {self.points:,} points"
        )


class Verdict(msgspec.Struct, frozen=True):
    """All checks of a challenger."""

    checks: tuple[Check, ...] = ()
    segments: dict[str, dict[str, dict[str, float]]] = {}
    """Target -> segment -> figures of the challenger, and "champion.log_loss"."""
    champion: str | None = None
    """Version it was compared with."""
    populations: dict[str, dict[str, dict[str, float]]] = {}
    """Target -> population -> figures of the challenger, each user counting once, and
    "champion.log_loss"."""

    @property
    def failed(self) -> tuple[Check, ...]:
        """Checks that were not passed."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def failing(self) -> dict[str, str]:
        """Target, or question of several, that fails checks of its own -> those checks."""
        found: dict[str, list[str]] = {}
        for check in self.failed:
            if check.target:
                found.setdefault(check.target, []).append(str(check))
        return {name: "; ".join(checks) for name, checks in found.items()}

    def require(self, architecture: str, left_out: tuple[str, ...] = ()) -> None:
        """Raise unless every check was passed; `left_out` is why other targets are not evaluated.

        Raises:
            TrainingError: names each check that failed, with its figures.
        """
        if self.failed:
            raise TrainingError(
                f"nothing published: {architecture} did not pass the gate:"
                f" {'; '.join(f'failed: {check}' for check in self.failed)}; collect more events,"
                " choose another horizon, or loosen the settings under `gate`"
                f"{''.join(f'; left out before: {why}' for why in left_out)}"
            )
