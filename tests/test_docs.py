"""The documentation as a site: its pages, their links, and how `make docs` builds it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deployed import program

ROOT = Path(__file__).parents[1]
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
SITE = program("docs_site.py")
DOCUMENTS = [*PAGES, *SITE.PAGES]


def leaves(nav: Any) -> Iterator[str]:
    if isinstance(nav, str):
        yield nav
    else:
        for item in nav.values() if isinstance(nav, dict) else nav:
            yield from leaves(item)


NOT_WRAPPED = (
    *("docs/evaluation.md", "docs/benchmarks.md", "docs/settings.md"),  # generated
    "CHANGELOG.md",  # still to be written so
)
LONGEST = 120


def prose(document: str) -> str:
    """The document without its code blocks."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def test_every_page_is_in_the_navigation_once():
    pages = [page.removeprefix("docs/") for page in PAGES]
    assert sorted(leaves(CONFIG["nav"])) == sorted([*pages, *SITE.PAGES.values()])


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_relative_link_leads_to_a_file(document):
    found = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    links = [link.partition("#")[0] for link in found if "://" not in link]
    folder = (ROOT / document).parent
    assert [link for link in links if link and not (folder / link).exists()] == []


@pytest.mark.parametrize("document", [name for name in DOCUMENTS if name not in NOT_WRAPPED])
def test_no_line_of_prose_is_longer_than_120_characters(document):
    lines = [line for line in prose(document).splitlines() if not line.lstrip().startswith("|")]
    assert [line for line in lines if len(line) > LONGEST] == []


@pytest.mark.parametrize(
    ("document", "text", "page"),
    [
        ("README.md", "[a](docs/alerts.md#what)", "[a](alerts.md#what)"),
        ("README.md", "[map](ARCHITECTURE.md)", "[map](architecture.md)"),
        ("README.md", "[deploy](deploy/README.md)", "[deploy](deployment.md)"),
        ("README.md", "[examples](examples)", "`examples`"),
        ("docs/alerts.md", "[make](../Makefile)", "make (`Makefile`)"),
        ("docs/alerts.md", "[one](../README.md)", "[one](index.md)"),
        ("docs/how-to/x.md", "[one](../../README.md)", "[one](../index.md)"),
        ("deploy/README.md", "[`acls`](acls)", "`deploy/acls`"),
        ("README.md", "[other](https://example.org/a)", "[other](https://example.org/a)"),
        ("README.md", "[below](#below)", "[below](#below)"),
        ("README.md", "- a\n  - b\n    c", "- a\n    - b\n        c"),
        ("README.md", "```\n[examples](examples)\n```", "```\n[examples](examples)\n```"),
        # Left alone, so that mkdocs names it.
        ("docs/alerts.md", "[gone](gone.md)", "[gone](gone.md)"),
    ],
)
def test_links_are_rewritten_for_the_site(document, text, page):
    assert SITE.rewritten(text, document) == page


@pytest.mark.parametrize(
    ("html", "count"),
    [
        ('<script src="https://cdn.example.org/a.js"></script>', 1),
        ("<link rel=stylesheet href=//fonts.example.org/a.css>", 1),
        ('<img alt="" src="http://example.org/a.png">', 1),
        ('<pre class="mermaid">a</pre>', 1),  # the theme would load its renderer from elsewhere
        ('<a href="https://example.org/">elsewhere</a><img src="a.png">', 0),
    ],
)
def test_a_fetch_from_another_host_is_found(html, count):
    assert len(SITE.OUTSIDE.findall(html)) == count


def test_the_site_is_strict_and_needs_no_other_host():
    assert CONFIG["strict"] is True
    assert CONFIG["theme"]["font"] is False
    assert "analytics" not in CONFIG.get("extra", {})
    assert set(CONFIG["validation"].values()) == {"warn"}


@pytest.mark.slow
def test_make_docs_installs_locked_packages_and_is_strict(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    shown = subprocess.run(
        ["make", "-n", "docs"], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    assert "-m venv --clear .venv-docs" in shown
    assert "--require-hashes -r requirements/docs.txt" in shown
    assert ".venv-docs/bin/mkdocs build --strict" in shown
