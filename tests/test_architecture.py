"""The dependency direction holds at run time too: importing marc_core brings in no ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def modules_after(*imports: str) -> set[str]:
    code = f"import sys, {', '.join(imports)}; print('\\n'.join(sys.modules))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def every_module() -> list[str]:
    files = sorted((ROOT / "marc_core").rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [n.removesuffix(".__init__") for n in names if "__main__" not in n]


def test_marc_core_never_imports_ray() -> None:
    loaded = modules_after(*every_module())
    assert "marc_core.indexing" in loaded
    assert "ray" not in loaded


def test_model_code_needs_only_torch_transformers_numpy() -> None:
    loaded = modules_after("marc_core.models", "marc_core.compress")
    assert loaded.isdisjoint({"ray", "lancedb", "av", "decord", "pyarrow.dataset", "omegaconf"})
