"""A process that was started with closed standard streams works, and writes into no file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from controlplane.runtime.standard_streams import open_standard_streams
open_standard_streams()
file = open(sys.argv[1], "w")
from controlplane.runtime.log import get_logger, set_up_logs
set_up_logs(style="json")
get_logger().warning("noise")
print("noise", flush=True)
print("noise", file=sys.stderr, flush=True)
assert sys.stdin.read() == ""
file.write(str(file.fileno()))
"""


@pytest.mark.parametrize(
    "closed", ["", "2>&-", ">&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-"], ids=lambda it: it or "none"
)  # fmt: skip
def test_a_file_does_not_take_the_place_of_a_stream(tmp_path: Path, closed: str) -> None:
    """Whichever of them are closed: what is logged and printed goes nowhere else."""
    file = tmp_path / "file"
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", SCRIPT, str(file)]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    assert (0, True) == (ended.returncode, int(file.read_text()) > 2), ended.stderr
