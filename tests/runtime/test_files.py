"""A replaced file is the old or the new one, and private; what is no file is not waited for."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from controlplane.runtime.files import read_file, replace_file
from testbed.fakes.odd_files import KINDS, put_odd


def test_a_file_is_replaced_whole_and_private(tmp_path: Path) -> None:
    """In a directory that is made if need be, with nothing left beside it."""
    file = tmp_path / "state" / "plan.json"
    replace_file(file, b"old")
    replace_file(file, b"new")

    assert b"new" == file.read_bytes()
    assert 0o600 == stat.S_IMODE(file.stat().st_mode)
    assert ["plan.json"] == [each.name for each in file.parent.iterdir()]


def test_a_write_that_fails_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a full disk would."""
    file = tmp_path / "plan.json"
    replace_file(file, b"old")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space left"):
        replace_file(file, b"new")

    assert b"old" == file.read_bytes()
    assert ["plan.json"] == [each.name for each in tmp_path.iterdir()]


def count_open(file: Path) -> int:
    """Return this process's descriptors of *file*; other threads open and close other ones."""
    found = 0
    for each in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # one that was closed meanwhile
            found += str(each.readlink()) == os.path.realpath(file)
    return found


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_no_regular_file_is_refused_without_a_wait(tmp_path: Path, kind: str) -> None:
    """However often it is tried, no descriptor stays open."""
    file = tmp_path / "token"
    put_odd(file, kind)
    before = count_open(file)
    for _ in range(3):
        with pytest.raises(OSError, match=r"."):
            read_file(file, limit=10)
    assert before == count_open(file)


def test_as_many_bytes_are_read_as_the_limit_allows(tmp_path: Path) -> None:
    """From a file that is longer, through a link, and from an empty one."""
    file, link, empty = (tmp_path / name for name in ("long", "link", "empty"))
    file.write_bytes(b"0123456789")
    link.symlink_to(file)
    empty.touch()
    assert [b"01234", b"01234", b""] == [read_file(each, limit=5) for each in (file, link, empty)]


@pytest.mark.timeout(60)
def test_a_draft_that_is_a_fifo_is_an_error_and_no_wait(tmp_path: Path) -> None:
    """The old file stays."""
    file = tmp_path / "plan.json"
    replace_file(file, b"old")
    os.mkfifo(file.with_suffix(".new"))
    with pytest.raises(OSError, match=r"."):
        replace_file(file, b"new")
    assert b"old" == file.read_bytes()
