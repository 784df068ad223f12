"""A replaced file is the old or the new one, and private."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from controlplane.runtime.files import replace_file


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
