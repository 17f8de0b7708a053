"""The trained student against the one that it started from, on held-out questions of the world."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from marc_core.config import MethodConfig, StudentConfig
from marc_core.evaluation.config import EvaluateConfig, VariantConfig
from marc_core.evaluation.results.compare import compare_results

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import CGrpoJobConfig


def compare_with_start(config: CGrpoJobConfig, student: Path) -> dict[str, Any]:
    """Evaluate both as `marc evaluate` does; return their comparison. Needs an initialised Ray.

    Results lie in `output`/evaluation; what is there already is not asked again.
    """
    from jobs.evaluate import run_evaluation

    trained = dataclasses.replace(config.student, model=str(student), revision=None)
    first, second = (
        run_evaluation(evaluation(config, model, name))
        for name, model in (("start", config.student), ("trained", trained))
    )
    return compare_results(first, second)


def evaluation(config: CGrpoJobConfig, model: StudentConfig, name: str) -> EvaluateConfig:
    """Return the evaluation of one of the two."""
    method = {f.name: getattr(config, f.name) for f in dataclasses.fields(MethodConfig)}
    return EvaluateConfig(
        **method | {"student": model},
        questions=config.evaluate_questions,
        variants={"marc": VariantConfig()},
        output=f"{config.output}/evaluation/{name}",
        probe_videos=0,
    )
