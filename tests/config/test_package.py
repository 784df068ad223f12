"""What is imported from `controlplane.config`."""

from __future__ import annotations

import ast
from pathlib import Path

from controlplane import config


def test_type_checkers_see_the_names_that_are_loaded() -> None:
    """Each from the module that its import names."""
    tree = ast.parse(Path(config.__file__).read_text(encoding="utf-8"))
    seen = {
        name.name: str(node.module).removeprefix("controlplane.config.")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for name in node.names
        if name.name != "import_module"
    }

    assert seen == vars(config)["_HOMES"]
    assert all(getattr(config, name) is not None for name in seen)
