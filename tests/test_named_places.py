"""What docs and docstrings name is there: files, modules, and what stands in them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("marc_core", "pipelines", "jobs", "serving", "benchmarks")
FOREIGN = {"eval_bench.py"}
"""Files of other projects that are named as such."""
_DOCSTRING = re.compile(r'"""(.*?)"""', re.DOTALL)
_FILE = re.compile(r"[\w/.-]+\.py\b")
_NAME = re.compile(rf"(?<![\w./])(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
_ENDINGS = {"json", "jsonl", "log", "md", "py", "toml", "yaml"}


def sources() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def texts() -> Iterator[tuple[str, str]]:
    """Yield (file, prose): pages about today, and every docstring."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        if page.name != "log.md":
            yield page.name, page.read_text()
    for path in sources():
        for text in _DOCSTRING.findall(path.read_text()):
            yield str(path.relative_to(ROOT)), text


@cache
def known(path: Path) -> frozenset[str]:
    """Return the names at the top of a module."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
        else:
            found |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    return frozenset(found)


def exists(name: str) -> bool:
    """Return whether a dotted name is a module, a folder, or stands at the top of a module."""
    first, *rest = name.split(".")
    place = ROOT / first
    for part in rest:
        if (place / part).is_dir() or (place / f"{part}.py").is_file():
            place = place / part
            continue
        module = place.with_suffix(".py") if place.with_suffix(".py").is_file() else None
        return part in known(module or place / "__init__.py")
    return True


def test_files_that_are_named_exist() -> None:
    files = [*sources(), *(ROOT / "tests").rglob("*.py")]
    parts = [path.relative_to(ROOT).parts for path in files]
    there = {"/".join(place[i:]) for place in parts for i in range(len(place))}
    missing = [
        (file, named)
        for file, text in texts()
        for named in _FILE.findall(text)
        if named not in FOREIGN
        if named.lstrip("./") not in there
    ]
    assert missing == []


def test_modules_and_what_is_in_them_exist() -> None:
    missing = [
        (file, name)
        for file, text in texts()
        for name in _NAME.findall(text)
        if name.rsplit(".", 1)[1] not in _ENDINGS and not exists(name)
    ]
    assert missing == []
