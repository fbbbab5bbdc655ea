"""Pictures of the diagrams in docs/: a page holds a diagram as Mermaid text, the site shows an SVG, light and dark.

A code host draws ```mermaid blocks itself. On the site no script may come from elsewhere, so each block is replaced by
a picture that was drawn before; its name holds the digest of the text, so a picture can't show an older diagram.
`python ops/diagrams.py` draws what is missing, with npm's mermaid in a headless Chromium, and removes what is not used.
"""

from __future__ import annotations

import json
import re
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from hashlib import blake2b
from html import escape, unescape
from pathlib import Path

__all__ = ["NotDrawn", "blocks_of", "pictures_of"]

DOCS = Path(__file__).parents[1] / "docs"
FOLDER = DOCS / "images" / "diagrams"
MERMAID = "mermaid@11.17.2"
MODES = {"light": "default", "dark": "dark"}
"""What the site calls a picture, and the theme of Mermaid that it is drawn in."""

_BLOCK = re.compile(r"^```mermaid\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TITLE = re.compile(r"^\s*accTitle: (.+)$", re.MULTILINE)
_SVG = re.compile(r'<pre id="out">(.*?)</pre>', re.DOTALL)
_PAGE = """<!doctype html><meta charset="utf-8"><body><pre id="out"></pre><script src="mermaid.min.js"></script><script>
mermaid.initialize({startOnLoad: false, theme: %(theme)s, htmlLabels: false, flowchart: {htmlLabels: false},
  fontFamily: "system-ui, sans-serif", deterministicIds: true});
document.fonts.ready.then(() => mermaid.render("diagram", %(text)s)).then(({svg}) => {
  const drawn = new DOMParser().parseFromString(svg, "text/html").querySelector("svg");
  document.getElementById("out").textContent = new XMLSerializer().serializeToString(drawn);
});
</script>"""


class NotDrawn(Exception):
    """A page holds a diagram that has no picture yet."""


def blocks_of(page: str) -> list[str]:
    """Return the diagrams of a page, as Mermaid text."""
    return _BLOCK.findall(page)


def pictures_of(page: str) -> str:
    """Return a page with each diagram replaced by its pictures, of which the site shows the one for its colours.

    Raises:
        NotDrawn: a diagram has none.
    """
    return _BLOCK.sub(lambda found: _pictures(found[1]), page)


def _pictures(text: str) -> str:
    missing = [mode for mode in MODES if not _path(text, mode).exists()]
    if missing:
        raise NotDrawn(f"no picture of the diagram that begins with {text[:60]!r}: run `ops/docs --draw`")
    title = _TITLE.search(text)
    return "\n\n".join(
        f"```{{image}} /docs/images/diagrams/{_path(text, mode).name}\n"
        f":class: only-{mode} diagram\n:alt: {title[1] if title else 'diagram'}\n```"
        for mode in MODES
    )


def _path(text: str, mode: str) -> Path:
    return FOLDER / f"{blake2b(text.encode(), digest_size=6).hexdigest()}-{mode}.svg"


def draw() -> None:
    """Draw what is missing, remove what is not used."""
    texts = {text for page in sorted(DOCS.rglob("*.md")) for text in blocks_of(page.read_text())}
    wanted = {_path(text, mode): (text, theme) for text in texts for mode, theme in MODES.items()}
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in FOLDER.glob("*.svg"):
        if path not in wanted:
            path.unlink()
    missing = {path: how for path, how in wanted.items() if not path.exists()}
    if not missing:
        return
    with tempfile.TemporaryDirectory() as folder:
        _fetch_mermaid(Path(folder))
        for path, svg in _drawn(Path(folder), missing):
            path.write_text(svg + "\n")
            print(path.relative_to(DOCS))


def _fetch_mermaid(folder: Path) -> None:
    subprocess.run(["npm", "pack", "--silent", MERMAID], cwd=folder, check=True, capture_output=True)
    [archive] = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        member = packed.extractfile("package/dist/mermaid.min.js")
        assert member is not None
        (folder / "mermaid.min.js").write_bytes(member.read())


def _drawn(folder: Path, missing: dict[Path, tuple[str, str]]) -> Iterator[tuple[Path, str]]:
    for path, (text, theme) in missing.items():
        page = folder / "page.html"
        page.write_text(_PAGE % {"theme": json.dumps(theme), "text": json.dumps(text)})
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000",
                   f"--user-data-dir={folder}/profile", "--dump-dom", page.as_uri()]  # fmt: skip
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        found = _SVG.search(done.stdout)
        if not found or "<svg" not in unescape(found[1]):
            raise SystemExit(f"Chromium drew nothing of {escape(text[:80])}: {done.stderr[-500:]}")
        yield path, unescape(found[1])


if __name__ == "__main__":
    draw()
