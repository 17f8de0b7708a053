"""Benchmarks from local files: which there are, where their videos lie, how rows become samples.

    load_benchmark(name, data, videos) -> [Sample]
        Video-R1 form (a JSON list with problem_id, problem, ...)  -> video_r1_sample
        the benchmark's own form                                   -> adapters.py

Nothing is downloaded. A malformed row is an error that names file, row and field; a video file
that does not exist is no error here: it becomes a recorded row of the evaluation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, cast

from marc_core.evaluation.config import BENCHMARKS
from marc_core.evaluation.datasets.adapters import FORMS, TASK_FIELDS
from marc_core.evaluation.datasets.sample import (
    BenchmarkError,
    Row,
    Sample,
)
from marc_core.scoring import parse
from marc_core.scoring.options import PROBLEM_TYPES, ProblemType, with_letters

Form = Literal["auto", "video-r1", "official"]


def load_benchmark(name: str, data: str, videos: str, *, form: Form = "auto") -> list[Sample]:
    """Read a benchmark's questions.

    name: one of BENCHMARKS. data: a .json, .jsonl or .parquet file, or a folder of them.
    videos: folder under which the video files lie. form: "auto" recognises the Video-R1 form by
    its fields. Raises BenchmarkError for an unknown name, a missing or empty file, a bad row.
    """
    if name not in BENCHMARKS:
        raise BenchmarkError(
            f"The benchmark must be one of world, {', '.join(BENCHMARKS)}. Got '{name}'."
        )
    samples: list[Sample] = []
    for file in data_files(data):
        content = read_rows(file)
        if form == "video-r1" or (form == "auto" and _is_video_r1(content)):
            samples += [video_r1_sample(Row(r, file=str(file), index=i), name, videos)
                        for i, r in enumerate(content)]  # fmt: skip
        else:
            samples += FORMS[name](content, file, videos)
    if not samples:
        raise BenchmarkError(f"No question found in '{data}'. Give the benchmark's own files.")
    _check_ids(samples)
    return samples


def data_files(data: str) -> list[Path]:
    """Return the question files: the file itself, or a folder's .json, .jsonl and .parquet."""
    path = Path(data)
    if path.is_file():
        return [path]
    if path.is_dir():
        files = [p for p in sorted(path.rglob("*")) if p.suffix in _READERS and p.is_file()]
        if files:
            return files
    raise BenchmarkError(
        f"Benchmark questions must be a .json, .jsonl or .parquet file, or a folder with such "
        f"files. Got '{data}', which {'holds none' if path.is_dir() else 'does not exist'}."
    )


def data_hash(data: str) -> str:
    """Return 16 hex digits of the question files' contents, for the manifest."""
    digest = hashlib.sha256()
    for file in data_files(data):
        digest.update(file.name.encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def read_rows(file: Path) -> Any:
    """Return a file's content: a list of rows, or TempCompass's nested object."""
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise BenchmarkError(f"Benchmark files end in {', '.join(_READERS)}. Got '{file.name}'.")
    try:
        return reader(file)
    except (ValueError, OSError) as error:
        raise BenchmarkError(f"'{file}' cannot be read as {file.suffix[1:]}: {error}.") from error


def _read_json(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def _read_jsonl(file: Path) -> list[Any]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def _read_parquet(file: Path) -> list[Any]:
    import pyarrow.parquet as pq

    return cast(list[Any], pq.read_table(file).to_pylist())


_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": _read_json,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}


def _is_video_r1(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content else None
    return isinstance(first, dict) and {"problem", "problem_type", "solution"} <= first.keys()


def video_r1_sample(row: Row, benchmark: str, videos: str) -> Sample:
    """Turn a row of the Video-R1 evaluation form into a Sample.

    problem_type "regression" and "numerical" stay apart: they are scored differently.
    """
    kind = row.choice("problem_type", PROBLEM_TYPES)
    options = with_letters(row.texts("options")) if kind == "multiple choice" else ()
    if kind == "multiple choice" and len(options) < 2:
        raise row.error("options", "must have at least two options", list(options))
    wrapped = row.text("solution")
    solution = parse.video_r1_answer(wrapped) if "<answer>" in wrapped else wrapped
    return Sample(
        problem_id=row.first("problem_id", "id") or str(row.index),
        benchmark=benchmark,
        task=row.first(*TASK_FIELDS),
        problem=row.text("problem"),
        data_type=cast(Literal["video", "image"], row.choice("data_type", ("video", "image"))),
        problem_type=cast(ProblemType, kind),
        options=options,
        solution=solution,
        path=resolve(row.text("path"), benchmark, videos),
    )


def resolve(path: str, benchmark: str, videos: str) -> str:
    """Return where a Video-R1 path ("./Evaluation/VSI-Bench/a.mp4") lies under `videos`.

    The longest tail of the path that exists wins; if none does, the path as it stands under
    `videos`, so that the recorded row names a place where the file was expected.
    """
    parts = [p for p in Path(path).parts if p not in (".", "/")]
    root = Path(videos)
    for start in range(len(parts)):
        candidate = root.joinpath(*parts[start:])
        if candidate.exists():
            return str(candidate)
    return str(root.joinpath(*parts))


def _check_ids(samples: Iterable[Sample]) -> None:
    seen: set[str] = set()
    for sample in samples:
        if sample.problem_id in seen:
            raise BenchmarkError(
                f"Every question of a benchmark must have its own id. "
                f"Got '{sample.problem_id}' twice. Give files that do not overlap."
            )
        seen.add(sample.problem_id)
