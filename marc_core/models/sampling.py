"""How the next token is drawn, and with which probability; the policy recomputes the same.

    logits / temperature -> suppressed and, among choices, all that no choice continues: -inf
      -> log-softmax: the distribution that is recorded -> greedy, or drawn

Letters: R rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from marc_core.errors import EngineError
from marc_core.models.engine import SamplingRecord

LEAST_HEAT, MOST_HEAT = 1e-30, 1e30
"""Temperatures beyond count as these: logits divided by them are still numbers of 32 bits, and what
is drawn is the same, the most probable id or any."""


def record_of(
    choices: Sequence[str],
    temperature: float,
    *,
    tokenizer: Any,
    end_id: int,
    suppressed_ids: tuple[int, ...],
) -> SamplingRecord:
    """Return the setting under which an answer is drawn. choices: none where it is free."""
    ids = tuple(answer_ids(text, tokenizer, end_id) for text in choices)
    return SamplingRecord(temperature=temperature, suppressed_ids=suppressed_ids, choice_ids=ids)


def answer_ids(text: str, tokenizer: Any, end_id: int) -> tuple[int, ...]:
    """Return the ids of an answer as the model should write it, with its end token."""
    return (*tokenizer(text, add_special_tokens=False)["input_ids"], end_id)


def suppressed_ids(model_config: Any) -> tuple[int, ...]:
    """Return the tokens that are never drawn: a video token would ask for missing features."""
    return (
        int(model_config.video_token_id),
        int(model_config.image_token_id),
        int(model_config.vision_start_token_id),
        int(model_config.vision_end_token_id),
    )


def end_ids(directory_config: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens that end an answer; the tokenizer's own end token first.

    directory_config: the checkpoint's GenerationConfig, or None.
    """
    stored = getattr(directory_config, "eos_token_id", None)
    ids = stored if isinstance(stored, list) else [stored]
    ids = [tokenizer.eos_token_id, *ids]
    return tuple(dict.fromkeys(int(i) for i in ids if i is not None))


def next_ids(choices: Sequence[Sequence[int]], prefix: Sequence[int]) -> list[int]:
    """Return the ids that can follow `prefix` in one of the choices; none after a whole one."""
    size = len(prefix)
    following = (c[size] for c in choices if len(c) > size and list(c[:size]) == list(prefix))
    return list(dict.fromkeys(following))


def log_probs(
    logits_RV: torch.Tensor,
    temperatures: Sequence[float],
    suppressed: Sequence[int],
    allowed: Sequence[Sequence[int]],
) -> torch.Tensor:
    """Return (R, V) float32 log-probabilities of what can be drawn, -inf for what cannot.

    temperatures: of each row; 0 (greedy) counts as 1. allowed: of each row the ids that may
    follow; empty where all may.
    """
    heats = [[min(max(t or 1.0, LEAST_HEAT), MOST_HEAT)] for t in temperatures]
    heat_R1 = torch.tensor(heats, device=logits_RV.device)
    blocked_V = torch.zeros(logits_RV.shape[1], dtype=torch.bool, device=logits_RV.device)
    blocked_V[list(suppressed)] = True
    blocked = blocked_V[None]
    if any(allowed):
        pairs = [(row, i) for row, ids in enumerate(allowed) for i in ids]
        rows_N, ids_N = torch.tensor(pairs, device=logits_RV.device).T
        blocked = blocked_V.repeat(len(logits_RV), 1)
        blocked[[row for row, ids in enumerate(allowed) if ids]] = True
        blocked[rows_N, ids_N] = blocked_V[ids_N]
    scaled_RV = logits_RV.float() / heat_R1
    return scaled_RV.masked_fill(blocked, -torch.inf).log_softmax(-1)


def keep_only(logits_V: torch.Tensor, ids: Sequence[int]) -> None:
    """Set all of a row's logits but those of `ids` to -inf, in place; none given: keep all."""
    if ids:
        kept = logits_V[list(ids)].clone()
        logits_V.fill_(-torch.inf)
        logits_V[list(ids)] = kept


def draw(
    log_probs_RV: torch.Tensor, temperatures: Sequence[float], uniforms: Sequence[float]
) -> torch.Tensor:
    """Return (R,) ids: the most probable where the temperature is 0, else drawn.

    uniforms: a number in [0, 1) of each row, from that row's own generator, so that a row's
    samples do not depend on what it is batched with. Raises EngineError for log-probabilities that
    are no numbers.
    """
    if torch.isnan(log_probs_RV).any():
        raise EngineError(
            "The student's log-probabilities must be numbers. Got NaN: its weights are broken. "
            "Start from an earlier checkpoint."
        )
    greedy_R = log_probs_RV.argmax(-1)
    if not any(temperatures):
        return greedy_R
    summed_RV = log_probs_RV.double().exp().cumsum(-1)
    points_R1 = torch.tensor(uniforms, dtype=torch.float64, device=summed_RV.device)[:, None]
    drawn_R = torch.searchsorted(summed_RV, points_R1 * summed_RV[:, -1:], right=True)[:, 0]
    is_drawn_R = torch.tensor([t > 0 for t in temperatures], device=summed_RV.device)
    return torch.where(is_drawn_R, drawn_R, greedy_R)
