"""An evaluation as a page of Markdown with its pictures beside it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from models.errors import EvaluationError
from models.evaluation.pictures import draw
from models.evaluation.results import ModelResult, TaskResult

HEAD: Final = """# Evaluation

Written by `{command}`. Models of a task learn from the same log up to the same time and are judged
once on what came later; figures are means over {seeds} seeds, with the spread (largest less
smallest) in brackets. The default of a task is the row with the best {criteria}.
A mixture averages the log-odds of others.
"""
BY_HAND: Final = "<!-- What follows is written by hand and kept when this page is written anew. -->"
BY_BASELINE: Final = "**a baseline wins**"


def write_report(results: list[TaskResult], folder: Path, command: str) -> Path:
    """Write `<folder>.md` and the pictures into `folder`; returns the page.

    What follows the line `BY_HAND` in a page that is there already is kept.

    Raises:
        EvaluationError: something cannot be written, or matplotlib is missing.
    """
    seeds = max(len(model.seeds) for result in results for model in result.models.values())
    criteria = " or ".join(dict.fromkeys(result.criterion for result in results))
    parts = [HEAD.format(command=command, seeds=seeds, criteria=criteria), _winners(results)]
    for result in results:
        picture = draw(result, folder)
        parts.append(_section(result, f"{folder.name}/{picture.name}"))
    page = folder.with_suffix(".md")
    try:
        if page.exists():
            _, mark, kept = page.read_text(encoding="utf-8").partition(BY_HAND)
            parts.append(mark + kept)
        page.write_text("\n".join(parts), encoding="utf-8")
    except OSError as error:
        raise EvaluationError(f"cannot write {page}: {error}") from error
    return page


def _winners(results: list[TaskResult]) -> str:
    """Who wins each task, and where that is a baseline."""
    lines = [
        "## Who wins",
        "",
        "| task | best row | its figure | the product beside the baselines |",
    ]
    lines.append("|---|---|---|---|")
    for result in results:
        best = result.models[result.default]
        figure = f"{result.criterion} {best.mean(result.criterion):.4f}"
        said = result.against or (BY_BASELINE if best.kind == "baseline" else "")
        lines.append(f"| `{result.task}` | {result.default}, a {best.kind} | {figure} | {said} |")
    return "\n".join([*lines, ""])


def table(result: TaskResult) -> list[list[str]]:
    """The rows of a task's table: name, kind, then the figures; the default is marked."""
    rows = []
    for name, model in (*result.models.items(), *result.reference.items()):
        mark = " (default)" if name == result.default else ""
        rows.append(
            [f"{name}{mark}", model.kind, *(_figure(model, metric) for metric in model.names)]
        )
    return rows


def _section(result: TaskResult, picture: str) -> str:
    metrics = result.models[result.default].names
    lines = [f"## {result.title} (`{result.task}`)", ""]
    if result.where:
        lines += [f"Predictions {result.where}.", ""]
    lines.append(f"| model | kind | {' | '.join(metrics)} |")
    lines.append("|---|---|" + "---|" * len(metrics))
    lines += [f"| {' | '.join(row)} |" for row in table(result)]
    notes = (f"- {note}" for note in (verdict(result), *result.notes) if note)
    lines += ["", *notes, "", f"![{result.title}]({picture})", ""]
    return "\n".join(lines)


def verdict(result: TaskResult) -> str:
    """Who wins by the criterion, and how the best network over sequences fares against it.

    The networks over sequences are those that have training curves.
    """
    if not result.curves:
        return f"{result.default}, a {result.models[result.default].kind}, wins."
    winner, rival = result.default, result.best_of(result.curves)
    if winner == rival:
        return f"{winner}, a network over sequences, wins."
    behind = abs(
        result.models[rival].mean(result.criterion) - result.models[winner].mean(result.criterion)
    )
    return (
        f"{winner}, a {result.models[winner].kind}, wins: {rival}, the best of the networks over "
        f"sequences, is {behind:.4f} behind it in {result.criterion}."
    )


def _figure(model: ModelResult, name: str) -> str:
    if math.isnan(model.mean(name)):
        return "-"
    spread = model.spread(name)
    return f"{model.mean(name):.4f}" + (f" ({spread:.4f})" if spread > 0 else "")
