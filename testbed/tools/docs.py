"""Builds the documentation as HTML, with every fault that a reader would stumble over.

``python -m testbed.tools.docs [DIRECTORY]`` writes the pages (build/docs by default) and ends with
status 1 if there is a warning: a link, picture or heading that is not there, a reference without
its target, a picture without words, a page without one title, headings that skip a level.
"""

from __future__ import annotations

import html
import itertools
import re
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
PATTERNS = ("*.md", "docs/**/*.md", "deploy/**/*.md", "examples/**/*.md", "tests/**/*.md",
            "protos/**/*.md", "controlplane/**/*.md")  # fmt: skip
STYLE = """
:root { color-scheme: light dark }
body { font: 1rem/1.55 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem }
pre { overflow-x: auto; padding: .7rem; border: 1px solid #8884; border-radius: 4px }
code { font-size: .92em }
table { border-collapse: collapse; display: block; overflow-x: auto }
th, td { border-bottom: 1px solid #8884; padding: .3rem .7rem; text-align: left }
td { vertical-align: top }
img { max-width: 100% }
"""


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown file, parsed."""

    path: Path
    tokens: Sequence[Token]

    @property
    def name(self) -> str:
        """Give its place in the repository."""
        return str(self.path.relative_to(ROOT))


def read_pages(root: Path = ROOT) -> list[Page]:
    """Give all pages."""
    parser = _parser()
    paths = {path for pattern in PATTERNS for path in root.glob(pattern)}
    return [Page(path, parser.parse(path.read_text(encoding="utf-8"))) for path in sorted(paths)]


def parse_page(path: Path, text: str) -> Page:
    """Give the page that *text* would make at *path*."""
    return Page(path, _parser().parse(text))


def anchors(page: Page) -> list[str]:
    """Give the anchors of a page's headings as GitHub makes them: of equal ones, -1 and so on."""
    seen: Counter[str] = Counter()
    found = []
    for _, title in _headings(page):
        anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        found.append(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
        seen[anchor] += 1
    return found


def links(page: Page) -> Iterator[str]:
    """Give everything that a page leads to or shows: links, references, pictures, HTML."""
    for token in _flat(page.tokens):
        for name in ("href", "src"):
            target = token.attrGet(name)
            if target is not None:
                yield str(target)
        if token.type in ("html_block", "html_inline"):
            yield from re.findall(r"""\b(?:href|src)\s*=\s*["']([^"']*)["']""", token.content)


def warnings(page: Page, anchors_of: dict[Path, list[str]]) -> Iterator[str]:
    """Give what is wrong with a page; *anchors_of* are those of all pages."""
    for link in links(page):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        if file and not target.exists():
            yield f"{page.name}: leads to {link}, which is not there"
        elif anchor and anchor not in anchors_of.get(target, ()):
            yield f"{page.name}: leads to {link}, and there is no such heading"
    yield from _broken_words(page)
    levels = [level for level, _ in _headings(page)]
    if levels.count(1) != 1:
        yield f"{page.name}: has {levels.count(1)} titles instead of one"
    for before, after in itertools.pairwise(levels):
        if after > before + 1:
            yield f"{page.name}: a heading skips from level {before} to {after}"


def _broken_words(page: Page) -> Iterator[str]:
    """Give references and pictures that say nothing."""
    for token in _flat(page.tokens):
        if token.type == "text":
            for words in re.findall(r"\[[^\[\]]+\]\[[^\[\]]*\]", token.content):
                yield f"{page.name}: {words} refers to what is not defined"
        elif token.type == "image" and not token.content.strip():
            yield f"{page.name}: the picture {token.attrGet('src')} has no words"


def build(directory: Path) -> list[str]:
    """Write every page as HTML into *directory*; give the warnings."""
    pages = read_pages()
    anchors_of = {page.path: anchors(page) for page in pages}
    found: list[str] = []
    for page in pages:
        found += warnings(page, anchors_of)
        target = (directory / page.name).with_suffix(".html")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_render(page, anchors_of[page.path]), encoding="utf-8")
    for link in {
        (page.path.parent / link).resolve()
        for page in pages
        for link in links(page)
        if link.endswith((".png", ".svg"))
    }:
        if link.is_file():
            copy = directory / link.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(link.read_bytes())
    return found


def _parser() -> MarkdownIt:
    return MarkdownIt("commonmark").enable("table")


def _flat(tokens: Sequence[Token]) -> Iterator[Token]:
    for token in tokens:
        yield token
        yield from _flat(token.children or ())


def _headings(page: Page) -> Iterator[tuple[int, str]]:
    for mark, token in zip(page.tokens, page.tokens[1:], strict=False):
        if mark.type == "heading_open":
            words = [each.content for each in token.children or ()]
            yield int(mark.tag[1:]), "".join(words)


def _render(page: Page, names: Sequence[str]) -> str:
    rest = iter(names)
    for token in _flat(page.tokens):
        if token.type == "heading_open":
            token.attrSet("id", next(rest))
        link = token.attrGet("href")
        if token.type == "link_open" and not re.match(r"[a-z][a-z+.-]*:", str(link)):
            token.attrSet("href", re.sub(r"\.md(?=#|$)", ".html", str(link)))
    parser = _parser()
    body = parser.renderer.render(list(page.tokens), parser.options, {})
    title = html.escape(next((title for _, title in _headings(page)), page.name))
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<style>{STYLE}</style><main>{body}</main></html>\n"
    )


if __name__ == "__main__":
    told = build(Path(sys.argv[1] if len(sys.argv) > 1 else "build/docs"))
    for line in told:
        print(line, file=sys.stderr)
    sys.exit(bool(told))
