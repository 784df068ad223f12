"""The documentation: it builds without a warning, and what is generated is current."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from controlplane.config.reference import reference
from testbed.tools import docs

ROOT = Path(__file__).parents[2]
PLACE = ROOT / "docs" / "page.md"


def test_it_builds_without_warnings(tmp_path: Path) -> None:
    """Every link, picture, reference and heading is there: what `make docs` does."""
    assert [] == docs.build(tmp_path)
    tutorial = (tmp_path / "docs" / "tutorial.html").read_text(encoding="utf-8")
    assert '<h2 id="1-set-up">' in tutorial
    assert 'href="operating.html"' in tutorial
    assert (tmp_path / "docs" / "images" / "dashboard-light.png").is_file()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("# T\n[a](gone.md)", ["leads to gone.md, which is not there"], id="link"),
        pytest.param("# T\n![a](b.png)", ["leads to b.png, which is not there"], id="picture"),
        pytest.param(
            '# T\n<img src="b.png" alt="a">', ["leads to b.png, which is not there"], id="HTML"
        ),
        pytest.param(
            "# T\n[a][b]\n\n[b]: gone.md", ["leads to gone.md, which is not there"], id="reference"
        ),
        pytest.param("# T\n[a][b]", ["[a][b] refers to what is not defined"], id="no reference"),
        pytest.param(
            "# T\n[a](#u)", ["leads to #u, and there is no such heading"], id="no heading"
        ),
        pytest.param("# T\n## U\n## U\n[a](#u-1) [b](#u)", [], id="equal headings"),
        pytest.param("# T\n## U\n[a](#u-1)", ["leads to #u-1, and there is no such heading"],
                     id="no second heading"),
        pytest.param("# T\n![](images/edges.svg)", ["the picture images/edges.svg has no words"],
                     id="no words"),
        pytest.param("text", ["has 0 titles instead of one"], id="no title"),
        pytest.param("# T\n# T", ["has 2 titles instead of one"], id="two titles"),
        pytest.param("# T\n### U", ["a heading skips from level 1 to 3"], id="skipped level"),
        pytest.param("# T\n```\n[a](gone.md)\n# U\n```", [], id="code is no text"),
        pytest.param("# T\n[a](https://example.net/) [b](tutorial.md#1-set-up)", [], id="good"),
    ],
)  # fmt: skip
def test_what_a_reader_would_stumble_over_is_a_warning(text: str, expected: list[str]) -> None:
    """Links of every form, and what makes a page hard to find one's way in."""
    page = docs.parse_page(PLACE, text)
    known = {each.path: docs.anchors(each) for each in (*docs.read_pages(), page)}

    told = [line.removeprefix("docs/page.md: ") for line in docs.warnings(page, known)]

    assert expected == told


def test_every_page_is_reached_from_the_index() -> None:
    """Nobody writes a page that nobody finds."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    assert set() == pages - set(re.findall(r"\]\(([^)#\s]+)\)", index)) - {"README.md"}


def test_the_references_are_of_the_present_code() -> None:
    """`python -m controlplane.config.reference` and `... .cli.reference` write them."""
    assert reference() == (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    # In a process of its own: click keeps what earlier tests made of a command's options.
    made = subprocess.run(
        [sys.executable, "-c", "from controlplane.cli import reference as r; print(r.reference())"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    assert made.removesuffix("\n") == (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
