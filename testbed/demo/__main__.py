"""``python -m testbed.demo``: what ``make demo`` runs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from testbed.demo.run import parse_arguments, run

if __name__ == "__main__":
    os.chdir(Path(__file__).parents[2])
    sys.exit(asyncio.run(run(parse_arguments())))
