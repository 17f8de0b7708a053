"""Training sets without a model: evidence of zeros, options red and blue, red is right."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch

from marc_core.evidence import Evidence, VisualRun
from marc_core.models.engine import Completion, SamplingRecord
from marc_core.question import Question
from marc_core.rl.samples import TrainSample

OPTIONS = ("red", "blue")


def evidence(choices=OPTIONS) -> Evidence:
    return Evidence(
        before_ids=(1, 2), after_ids=(3,), runs=(VisualRun(ids=(), num_tokens=1),),
        tokens_ND=torch.zeros(1, 4), positions_N3=torch.zeros(1, 3, dtype=torch.long),
        choices=choices, vision_fingerprint="tower",
    )  # fmt: skip


def sample(i: int, *, labelled: bool = True, media="video") -> TrainSample:
    return TrainSample(
        id=f"q{i}", question=Question(text=f"what colour is {i}?", options=OPTIONS),
        problem_type="multiple choice", answers=("A",) if labelled else (), media=media,
        evidence=evidence().to_bytes(),
    )  # fmt: skip


def write_plain_set(
    folder: Path, count: int, *, labelled: bool = True, teacher: bool = True, files: int = 1
) -> Path:
    folder.mkdir(parents=True)
    rows = [
        sample(i, labelled=labelled).to_row() | ({"teacher": f"t{i}".encode()} if teacher else {})
        for i in range(count)
    ]
    for f in range(files):
        part = rows[f * count // files : (f + 1) * count // files]
        pq.write_table(pa.Table.from_pylist(part), folder / f"{f}.parquet", row_group_size=3)
    return folder


def completion(text: str, index: int = 0, *, version: int = 0, request: str = "r") -> Completion:
    ids = {"red": (5, 9), "blue": (6, 9)}
    return Completion(
        request_id=request, index=index, text=text, token_ids=ids[text], log_probs=(-0.7, 0.0),
        finish_reason="stop", weights_version=version, prompt_tokens=4, visual_tokens=1,
        sampling=SamplingRecord(
            temperature=1.0, suppressed_ids=(), choice_ids=tuple(ids[o] for o in OPTIONS)
        ),
    )  # fmt: skip
