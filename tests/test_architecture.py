"""The dependency direction holds at run time too, and an import changes no library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CODE = """
import sys
import marc_core.models, marc_core.compress
print(*sys.modules)
import {every}
print(*sys.modules)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
print(*ALL_ATTENTION_FUNCTIONS.valid_keys())
"""


def every_module() -> list[str]:
    files = sorted((ROOT / "marc_core").rglob("*.py"))
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts) for f in files]
    return [n.removesuffix(".__init__") for n in names if "__main__" not in n]


@pytest.fixture(scope="module")
def fresh() -> list[set[str]]:
    """What a fresh process has: modules after the models, modules after all of marc_core, and then
    the attention functions of transformers."""
    code = CODE.format(every=", ".join(every_module()))
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [set(line.split()) for line in result.stdout.splitlines()]


def test_marc_core_never_imports_ray(fresh: list[set[str]]) -> None:
    assert "marc_core.indexing" in fresh[1]
    assert "ray" not in fresh[1]


def test_model_code_needs_only_torch_transformers_numpy(fresh: list[set[str]]) -> None:
    assert "marc_core.models" in fresh[0]
    assert fresh[0].isdisjoint({"ray", "lancedb", "av", "decord", "pyarrow.dataset", "omegaconf"})


def test_no_import_registers_an_attention_function(fresh: list[set[str]]) -> None:
    """`marc_core.tiny.packing` has one, for the time of a training."""
    assert "marc_core.tiny.packing" in fresh[1]
    assert "sdpa" in fresh[2]
    assert "packed" not in fresh[2]
