"""The trained student as a directory that everything takes: `student.model=DIRECTORY`.

Weights in the precision of the start, tokenizer, settings (marc.json) and a model card.
"""

from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.training.learner import load_trained
from jobs.training.lora import merge
from jobs.training.run_log import curve
from marc_core.models.checkpoints import local_directory
from marc_core.models.loading import load_model
from marc_core.models.weights import stored_dtype

if TYPE_CHECKING:
    import torch

    from jobs.training.cgrpo_config import CGrpoJobConfig

CARD = "README.md"
_CARD = """---
library_name: transformers
pipeline_tag: video-text-to-text
{base}---
# A MARC student trained with C-GRPO

It answers questions about videos from few visual tokens; use it as `student.model` of MARC.

* start: `{start}`; full-token teacher: `{teacher}`
* data: `{data}`, {questions:,} questions, {seen:,} seen
* {config.steps} steps of {config.rollout.questions} questions, \
{config.rollout.answers} answers each; alpha {config.reward.alpha:g}, tau \
{config.reward.tau:g}, seed {config.seed}
* visual tokens: as the training set was cut; the vision tower is that of the start

| on training questions | first logged step | last |
|---|---:|---:|
{table}

Means over the questions of one logged step, each on other ones: not an evaluation.
`marc evaluate student.model=DIRECTORY` makes one.

```
{command}
```
"""
_WATCHED = ("reward", "score", "a_full", "eta", "r_c", "kl", "entropy", "length")


def export_student(
    config: CGrpoJobConfig, weights: dict[str, torch.Tensor], directory: Path, num_questions: int
) -> Path:
    """Write the student with a checkpoint's weights; return its directory."""
    start = local_directory("student", config.student.model, config.student.revision)
    on_cpu = dataclasses.replace(config.student, device="cpu")
    model, _, _ = load_model(on_cpu, dtype=stored_dtype(start))
    if config.learner.lora_rank:
        merge(model, weights, config.learner)
    else:
        load_trained(model, weights)
    fresh = directory.with_name(directory.name + ".new")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(fresh)
    for file in start.iterdir():  # tokenizer, pixels, marc.json: all that is no weight
        kept = file.suffix in (".json", ".jinja", ".txt", ".model") and "index" not in file.name
        if kept and not (fresh / file.name).exists():
            shutil.copyfile(file, fresh / file.name)
    (fresh / CARD).write_text(model_card(config, num_questions))
    shutil.rmtree(directory, ignore_errors=True)
    fresh.rename(directory)
    return directory


def model_card(config: CGrpoJobConfig, num_questions: int) -> str:
    """Return the model card: what it is, what it learned from, how far it came, the command."""
    points = curve(Path(config.output))
    lines = (f"| {n} | {_at(points, 0, n)} | {_at(points, -1, n)} |" for n in _WATCHED)
    on_hub = config.student.model.count("/") == 1 and not Path(config.student.model).exists()
    return _CARD.format(
        base=f"base_model: {config.student.model}\n" if on_hub else "",
        start=config.student.model,
        teacher=config.teacher_model().model,
        data=config.train_set,
        questions=num_questions,
        seen=config.steps * config.rollout.questions,
        config=config,
        table="\n".join(lines),
        command=" ".join(["python", "-m", "jobs.train_cgrpo", *sys.argv[1:]]),
    )


def _at(points: list[dict[str, Any]], place: int, name: str) -> str:
    return f"{points[place][name]:.3f}" if points and name in points[place] else "-"
