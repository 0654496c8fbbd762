"""docs/metrics.md has every metric of the pages, and no other."""

from __future__ import annotations

import re
from pathlib import Path

from stream.outcomes import page

ROOT = Path(__file__).parents[1]
METRIC = re.compile(r"\bintentstream_[a-z_]+")
FAMILIES = {
    "intentstream_model_": page._FIGURES,
    "intentstream_population_": page._POPULATIONS,
    "intentstream_ranking_": page._RANKINGS,
}


def served() -> set[str]:
    names = {prefix + name for prefix, figures in FAMILIES.items() for name in figures}
    for module in ("stream/health/metrics.py", "stream/outcomes/page.py"):
        found = METRIC.findall((ROOT / module).read_text(encoding="utf-8"))
        names |= {name for name in found if name not in FAMILIES}
    return names


def test_the_page_describes_every_metric_and_no_other():
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    described = {name.removesuffix("_total") for name in METRIC.findall(text)}
    assert described == served()
