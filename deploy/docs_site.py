"""Hooks of mkdocs: pages from outside docs/, and links that leave the site.

README.md, ARCHITECTURE.md and some other documents live where readers of the repository look for
them. The site shows them as pages. A link to another file of the repository has no page to lead
to, so the site shows the file's path instead. A link to a file that does not exist stays as it
is: mkdocs warns, and `make docs` fails.
"""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "ARCHITECTURE.md": "architecture.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "deploy/README.md": "deployment.md",
    "data/README.md": "data.md",
}
"""Document of the repository -> page of the site."""
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
INDENT = re.compile(r"^ +(?=\S)", re.MULTILINE)
FENCE = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
OUTSIDE = re.compile(
    r"<(?:script|img|iframe|source)\b[^>]*\bsrc=[\"']?(?:https?:)?//"
    r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//"
    r"|class=[\"']?mermaid\b"
    r"|url\([\"']?(?:https?:)?//",
    re.IGNORECASE,
)
"""What a browser would fetch from another host when it shows a page."""
log = logging.getLogger("mkdocs.hooks.docs_site")


def page_of(document: str) -> str | None:
    """The page of a document of the repository; None where the site has none."""
    if document in PAGES:
        return PAGES[document]
    return document.removeprefix("docs/") if document.startswith("docs/") else None


def document_of(page: str) -> str:
    """The document of the repository that a page is made of."""
    return next((name for name, made in PAGES.items() if made == page), f"docs/{page}")


def rewritten(markdown: str, document: str, root: Path = ROOT) -> str:
    """The document with the links that its page needs.

    Args:
        markdown: text of the document.
        document: its path in the repository, with slashes.
        root: the repository.
    """
    parts = FENCE.split(markdown)
    here = posixpath.dirname(page_of(document) or "")

    def link(match: re.Match[str]) -> str:
        image, text, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return match[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(document), path))
        if found.startswith("..") or not (root / found).exists():
            return match[0]
        page = page_of(found)
        if page is None or (root / found).is_dir():
            name = f"`{found}`"
            return name if text.strip("`") in {found, path} else f"{text} ({name})"
        target = posixpath.relpath(page, here or ".") + (f"#{anchor}" if anchor else "")
        return f"{image}[{text}]({target})"

    # Lists are nested by two spaces in the documents; Python-Markdown wants four.
    parts[::2] = [INDENT.sub(lambda m: 2 * m[0], LINK.sub(link, part)) for part in parts[::2]]
    return "".join(parts)


def on_files(files: Any, config: Any) -> Any:
    """Add the documents from outside docs/ as pages."""
    from mkdocs.structure.files import File  # noqa: PLC0415 # tests read this module without mkdocs

    for document, page in PAGES.items():
        text = (ROOT / document).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:  # noqa: ARG001
    """Rewrite the links of each page."""
    return rewritten(markdown, document_of(page.file.src_uri))


def on_post_page(output: str, page: Any, config: Any) -> str:  # noqa: ARG001
    """Warn, so that the build fails, where a page would fetch anything from another host."""
    for match in OUTSIDE.finditer(output):
        log.warning("%s fetches from another host: %s", page.file.src_uri, match[0])
    return output
