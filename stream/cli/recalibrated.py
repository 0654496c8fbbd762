"""What a recalibration shows: a line per target and population."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import typer

from models.serving.thresholds import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from models.serving.recalibration import Finding
    from stream.learning.recalibrating import Recalibrated


def show_recalibrated(done: Recalibrated, json_out: Path | None = None) -> None:
    """Show what was found, and write it where asked."""
    found = done.found
    if str(json_out) != "-":
        told = "announced" if done.announced else "not announced"
        state = f"{found.version} of {found.model_version} ({told})"
        typer.echo(f"recalibrated {state} in {done.seconds:.1f} s")
        for line in lines_of(found.findings):
            typer.echo(line)
        if found.raise_at is not None:
            typer.echo(in_words(found.raise_at))
    if json_out is not None:
        text = msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n"
        if str(json_out) == "-":
            typer.echo(text, nl=False)
        else:
            json_out.write_text(text, encoding="utf-8")


def lines_of(findings: tuple[Finding, ...]) -> Iterator[str]:
    """One line per target and population."""
    for one in findings:
        where = f"{one.target} {'at events' if one.population == 'event' else 'at timers'}"
        if not one.figures:
            yield f"{where}: as it is: {one.why}"
            continue
        figures = one.figures
        yield (
            f"{where}: {'mapped' if one.kept else 'as it is'}: {one.why}; calibration error"
            f" {figures['before.ece']:.4f} -> {figures['after.ece']:.4f} (chance"
            f" {figures['ece_chance']:.4f}), log-loss {figures['before.log_loss']:.4f} ->"
            f" {figures['after.log_loss']:.4f} over {figures['points']:,.0f} labels of"
            f" {figures['users']:,.0f} users"
        )
