"""How the site is built from the pages, see `ops/docs`. The pages stay plain Markdown, for reading on a code host.

The source folder is the repository's root, so that a link is the same file here and there (`../README.md`). What a
code host does not need is put in while building: the table of contents, and the pictures of the diagrams.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

from ops.diagrams import pictures_of

ROOT = Path(__file__).parents[1]

NAVIGATION = {
    "Begin": ("first-ten-minutes",),
    "For whom": ("for-agents", "for-applications", "for-consumers", "for-operators", "for-deciders"),
    "Understand": ("concepts", "refusals", "not-promised"),
    "Build": ("shell", "client", "advisor", "other-languages"),
    "Look up": ("definition", "records", "reasons", "settings", "metrics"),
    "Run": ("operating", "top", "speed"),
}
"""The pages by what they are for. One that is not there yet is left out; one that is named nowhere comes last."""

PROJECT_PAGES = ("README", "ARCHITECTURE", "CONTRIBUTING", "SECURITY", "CHANGELOG")

project = "Placet"
root_doc = "docs/index"
include_patterns = ["docs/**.md", *(f"{page}.md" for page in PROJECT_PAGES)]
exclude_patterns = [".*", "placet", "tests", "ops", "demo", "bench", "schemas", "processors", "streams"]
extensions = ["myst_parser"]
myst_heading_anchors = 4
nitpicky = True
suppress_warnings = ["myst.header"]  # a page that a code host shows may begin below the first level

html_theme = "furo"
html_title = "Placet"
html_static_path = ["_static"]
html_css_files = ["placet.css"]
html_copy_source = False
html_show_copyright = False
html_show_sphinx = False
highlight_language = "text"
pygments_style = "friendly"
pygments_dark_style = "github-dark"

linkcheck_timeout = 20
linkcheck_retries = 2


def contents() -> str:
    """Return the table of contents, as MyST directives."""
    named = {page for pages in NAVIGATION.values() for page in pages}
    there = {str(path.relative_to(ROOT / "docs").with_suffix("")) for path in (ROOT / "docs").rglob("*.md")}
    rest = sorted(page for page in there - named if page != "index")
    blocks = {caption: [page for page in pages if page in there] for caption, pages in NAVIGATION.items()}
    blocks["The project"] = [*rest, *(f"/{page}" for page in PROJECT_PAGES)]
    return "".join(
        f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n" + "\n".join(pages) + "\n```\n"
        for caption, pages in blocks.items()
    )


def on_source_read(_app: Sphinx, page: str, source: list[str]) -> None:
    """Put in what only the site needs."""
    if page == root_doc:
        source[0] += contents()
    if page.startswith("docs/"):
        source[0] = pictures_of(source[0])


def on_build_finished(app: Sphinx, error: Exception | None) -> None:
    """The entrance at the top of the folder leads to the first page."""
    if error is None and app.builder.format == "html":
        (Path(app.outdir) / "index.html").write_text('<meta http-equiv="refresh" content="0; url=docs/index.html">\n')


def setup(app: Sphinx) -> None:
    """Hook in."""
    app.connect("source-read", on_source_read)
    app.connect("build-finished", on_build_finished)
