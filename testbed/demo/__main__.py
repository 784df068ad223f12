"""``python -m testbed.demo``: quits on Ctrl-C without a traceback from its first line on."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from testbed.demo.terminal import Foreground


def main() -> int:
    """Run the demo in the foreground of its terminal and return its exit status."""
    with Foreground() as terminal:
        # Nothing has been started yet, so there is nothing to stop; `run` takes over from here.
        signal.signal(signal.SIGINT, lambda *_: terminal.quit(0))
        signal.signal(signal.SIGTERM, lambda *_: terminal.quit(0))
        import asyncio  # noqa: PLC0415 -- loading takes seconds, in which Ctrl-C must work

        from testbed.demo.command import (  # noqa: PLC0415
            parse_arguments,
            run,
        )

        os.chdir(Path(__file__).parents[2])
        try:
            return asyncio.run(run(parse_arguments()))
        except KeyboardInterrupt:  # asyncio resets the handler when its loop closes
            return 0


if __name__ == "__main__":
    sys.exit(main())
