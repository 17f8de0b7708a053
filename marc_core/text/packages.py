"""Where a package lies that is used for the files that it holds."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path


def folder_of(module: str) -> Path:
    """Return the folder of a package without importing it. Raises ModuleNotFoundError."""
    spec = find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named '{module}'", name=module)
    return Path(next(iter(spec.submodule_search_locations)))
