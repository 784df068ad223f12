"""``python -m controlplane`` is ``cats``."""

from controlplane.cli import main

if __name__ == "__main__":
    main()
