"""The model card of a trained student: README.md beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from marc_core.supervised.config import SupervisedConfig

NAME = "README.md"


def model_card(
    config: SupervisedConfig, *, questions: int, held_out: Mapping[str, float], held_out_size: int
) -> str:
    """Return the card. questions: of the training set. held_out: accuracy overall and by source,
    empty where none was measured; held_out_size: its questions."""
    seen = config.steps * config.questions_per_step
    rates = f"{config.learning_rate:g} to {config.learning_rate * config.final_rate:g}"
    lines = [
        "# A MARC student trained on compressed input",
        "",
        f"Started from `{config.student.model}`; its vision tower is unchanged, so that features",
        "of a memory that was indexed with it stay valid.",
        "",
        "| | |",
        "|---|---|",
        f"| training set | `{config.train_set}`, {questions:,} questions |",
        f"| questions seen | {seen:,} in {config.steps:,} steps of {config.questions_per_step} |",
        "| loss | - log p of the right answer, renormalised over what could have been said |",
        f"| rate | {rates}, Muon x {config.muon_scale:g} and AdamW |",
        f"| told where events lie | {'yes' if config.event_facts else 'no'} |",
        "",
    ]
    if held_out:
        lines += [
            f"Accuracy on {held_out_size:,} questions about other videos",
            f"(`{config.validation_set}`):",
            "",
            "| questions | accuracy |",
            "|---|---:|",
            *(f"| {name} | {100 * value:.1f} |" for name, value in held_out.items()),
            "",
        ]
    return "\n".join([*lines, "## Made by", "", "```", command(config), "```", ""])


def command(config: SupervisedConfig) -> str:
    """Return the command that makes this student again."""
    named = [
        f"train_set={config.train_set}",
        f"validation_set={config.validation_set}",
        f"student.model={config.student.model}",
        f"steps={config.steps}",
        f"questions_per_step={config.questions_per_step}",
        f"learning_rate={config.learning_rate:g}",
        f"seed={config.seed}",
    ]
    return "python -m jobs.train_student --config train_student " + " ".join(named)
