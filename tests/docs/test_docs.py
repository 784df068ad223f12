"""The documentation: it builds without a warning, and what is generated is current."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def build(source: Path, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run what ``make docs`` runs, on a copy of the repository at *source*."""
    command = ["-m", "sphinx", "--quiet", "--fail-on-warning", *options, "-c", str(source / "docs")]
    return subprocess.run(
        [sys.executable, *command, str(source), str(target)],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "NO_COLOR": "1"},
        text=True,
        timeout=150,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation once."""
    target = tmp_path_factory.mktemp("site")
    done = build(ROOT, target)
    assert 0 == done.returncode, done.stderr
    return target


def test_it_builds_without_warnings(site: Path) -> None:
    """Every link, picture, reference and heading is there: what `make docs` does."""
    tutorial = (site / "docs" / "tutorial.html").read_text(encoding="utf-8")
    assert 'id="set-up"' in tutorial or 'id="1-set-up"' in tutorial
    assert 'href="operating.html"' in tutorial
    assert "url=docs/index.html" in (site / "index.html").read_text(encoding="utf-8")


def test_it_can_be_searched_and_navigated(site: Path) -> None:
    """The index knows words of the pages, and each page shows where it stands among the others."""
    index = (site / "searchindex.js").read_text(encoding="utf-8")
    assert "residency" in index
    page = (site / "docs" / "steering.html").read_text(encoding="utf-8")
    for other in ("deploying.html", "configuration.html", "../CONTRIBUTING.html"):
        assert f'href="{other}"' in page, other


def test_it_is_read_offline(site: Path) -> None:
    """No page fetches a script, a style, a font or a picture from elsewhere."""
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=\"([^\"]+)\"", text)
        assert [] == [link for link in fetched if re.match(r"(https?:)?//", link)], page


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("# T\n[a](gone.md)", "gone.md", id="link"),
        pytest.param("# T\n![a](b.png)", "b.png", id="picture"),
        pytest.param("# T\n[a](#u)", "'u'", id="no heading"),
        pytest.param("# T\n[a](tutorial.md#gone)", "gone", id="no heading elsewhere"),
        pytest.param("# T\n### U", "Non-consecutive header level", id="skipped level"),
        pytest.param("# T\nlonely", "toc.not_included", id="in no navigation"),
    ],
)
def test_what_a_reader_would_stumble_over_fails(text: str, expected: str, tmp_path: Path) -> None:
    """A broken link of any kind, a heading out of order, a page that no navigation reaches."""
    (tmp_path / "docs").mkdir()
    shutil.copytree(ROOT / "docs" / "_templates", tmp_path / "docs" / "_templates")
    shutil.copy(ROOT / "docs" / "conf.py", tmp_path / "docs" / "conf.py")
    named = "" if "lonely" in text else "page\n"
    index = f"# I\n```{{toctree}}\ntutorial\n{named}```\n"
    (tmp_path / "docs" / "index.md").write_text(index, encoding="utf-8")
    (tmp_path / "docs" / "tutorial.md").write_text("# Tutorial\n## 1. Set up\n", encoding="utf-8")
    (tmp_path / "docs" / "page.md").write_text(text, encoding="utf-8")

    done = build(tmp_path, tmp_path / "site", "-b", "dummy")

    assert 0 != done.returncode
    assert expected in done.stderr


def test_every_picture_has_words() -> None:
    """Sphinx lets a picture without a description pass; a reader with a screen reader does not."""
    for page in ROOT.glob("docs/**/*.md"):
        assert [] == re.findall(r"!\[\s*\]\([^)]*\)", page.read_text(encoding="utf-8")), page


def test_every_page_is_reached_from_the_index() -> None:
    """No one writes a page that no one finds."""
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {str(p.relative_to(ROOT / "docs")) for p in (ROOT / "docs").rglob("*.md")}
    found = set(re.findall(r"\]\(([^)#\s]+)\)", index))
    assert set() == pages - found - {"README.md", "index.md"}


def test_the_references_are_of_the_present_code() -> None:
    """`python -m testbed.tools.references` writes them."""
    # In a process of its own: click keeps what earlier tests made of a command's options.
    code = (
        "import json; from testbed.tools.references import references as r; print(json.dumps(r()))"
    )
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, cwd=ROOT, text=True
    ).stdout
    for name, text in json.loads(made).items():
        assert text == (ROOT / "docs" / name).read_text(encoding="utf-8"), name


@pytest.mark.parametrize("page", ["configuration.md", "agent.md", "metrics.md"])
def test_every_key_and_metric_has_a_meaning(page: str) -> None:
    """A row without one says its reader nothing."""
    rows = re.findall(r"^\| `.*", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert len(rows) > 30
    assert [] == [row for row in rows if row.endswith("|  |")]
