"""Evidence as the model takes it: ids, positions and visual tokens of ragged prompts in one batch.

    prompts      |pad pad  text visual text|        padded on the left,
    completions                            |answer end pad|   on the right

The engine builds its inputs here; the policy lays completions out otherwise
(`marc_core.models.branches`), from the same ids and positions.

Letters: B rows, S tokens of a padded prompt, N visual tokens, D channels, L deepstack layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch

from marc_core.errors import AnswerError
from marc_core.evidence import Evidence
from marc_core.models.adapters import Adapter

PositionRule = Literal["max", "hf5"]


def full_ids(evidence: Evidence, video_id: int) -> list[int]:
    """Return the whole prompt's token ids, `video_id` in place of each visual token."""
    ids = list(evidence.before_ids)
    for run in evidence.runs:
        ids += [*run.ids, *[video_id] * run.num_tokens]
    return [*ids, *evidence.after_ids]


def prompt_tokens(evidence: Evidence) -> int:
    """Return the length of the whole prompt."""
    text = sum(len(run.ids) for run in evidence.runs)
    return len(evidence.before_ids) + text + evidence.num_tokens + len(evidence.after_ids)


def full_positions(evidence: Evidence, rule: PositionRule = "max") -> torch.Tensor:
    """Return the (3, S) position ids of the whole prompt.

    Text after a visual run starts at 1 + the run's largest index on any axis, as the checkpoints
    were trained. "hf5" is the rule of transformers 5.20 - 5.23, start + max(height, width), to
    prove equality with that library.
    """
    pieces, start, at = [_text(0, len(evidence.before_ids))], len(evidence.before_ids), 0
    for run in evidence.runs:
        pieces.append(_text(start, len(run.ids)))
        start += len(run.ids)
        own_N3 = evidence.positions_N3[at : at + run.num_tokens]
        pieces.append(own_N3.T + start)
        axes = own_N3 if rule == "max" else own_N3[:, 1:]
        start += int(axes.max()) + 1
        at += run.num_tokens
    pieces.append(_text(start, len(evidence.after_ids)))
    return torch.cat(pieces, dim=1)


def collate(
    evidences: Sequence[Evidence],
    adapter: Adapter,
    *,
    pad_id: int,
    device: torch.device,
    dtype: torch.dtype,
    completions: Sequence[Sequence[int]] = (),
    rule: PositionRule = "max",
) -> dict[str, Any]:
    """Return the arguments of the model's forward call for these prompts (and completions).

    Positions of completions go on by 1 from their prompt's last. Every call gets fresh objects,
    because the library changes encoder outputs in place.
    """
    video_id = int(adapter.model_config.video_token_id)
    prompts = [full_ids(evidence, video_id) for evidence in evidences]
    length = max(len(ids) for ids in prompts)
    extra = max((len(c) for c in completions), default=0)
    shape = (len(prompts), length + extra)
    input_ids, mask = torch.full(shape, pad_id), torch.zeros(shape, dtype=torch.long)
    positions = torch.zeros(3, *shape, dtype=torch.long)
    for i, (ids, evidence) in enumerate(zip(prompts, evidences, strict=True)):
        new = list(completions[i]) if completions else []
        start, end = length - len(ids), length + len(new)
        input_ids[i, start:end] = torch.tensor(ids + new)
        mask[i, start:end] = 1
        positions[:, i, start:length] = full_positions(evidence, rule)
        positions[:, i, length:] = positions[:, i, length - 1 : length] + 1 + torch.arange(extra)
    inputs: dict[str, Any] = {
        "input_ids": input_ids.to(device),
        "attention_mask": mask.to(device),
        "position_ids": positions.to(device),
    }
    return inputs | visual_inputs(evidences, adapter, device, dtype)


def visual_inputs(
    evidences: Sequence[Evidence], adapter: Adapter, device: torch.device, dtype: torch.dtype
) -> dict[str, Any]:
    """Return the model's argument that holds the visual tokens of a batch's rows, in order."""
    seen = [e for e in evidences if e.num_tokens]
    if not seen:
        return {}
    tokens = [e.tokens_ND.to(device, dtype) for e in seen]
    deepstack = [
        None if e.deepstack_LND is None else e.deepstack_LND.to(device, dtype) for e in seen
    ]
    return {"mm_encoder_outputs": {"video": adapter.encoder_outputs(tokens, deepstack)}}


def check_evidence(evidence: Evidence, adapter: Adapter, fingerprint: str) -> None:
    """Raise AnswerError for evidence that this student cannot read."""
    width = int(adapter.model_config.get_text_config().hidden_size)
    count = evidence.num_tokens
    if not (evidence.before_ids or evidence.after_ids):
        raise AnswerError("Evidence must hold a prompt. Got no token ids.")
    if not count and not evidence.runs:
        return
    if evidence.vision_fingerprint != fingerprint:
        raise AnswerError(
            f"Evidence must be made with the student's vision tower {fingerprint}. Got tower "
            f"{evidence.vision_fingerprint or 'unknown'}. Index again with this student, or ask "
            "the one that the memory was indexed with."
        )
    if evidence.tokens_ND.shape != (count, width):
        raise AnswerError(
            f"Visual tokens must be (N, {width}). Got {tuple(evidence.tokens_ND.shape)}."
        )
    if evidence.positions_N3.shape != (count, 3) or evidence.positions_N3.min() < 0:
        raise AnswerError(
            f"Positions must be ({count}, 3), none below 0. Got "
            f"{tuple(evidence.positions_N3.shape)}."
        )
    sizes = [run.num_tokens for run in evidence.runs]
    if sum(sizes) != count or not all(sizes):
        raise AnswerError(f"Runs must cover all {count} visual tokens. Got runs of {sizes}.")
    _check_deepstack(evidence, adapter)


def _check_deepstack(evidence: Evidence, adapter: Adapter) -> None:
    layers = adapter.num_deepstack
    found = evidence.deepstack_LND
    expected = (layers, *evidence.tokens_ND.shape) if layers else None
    got = None if found is None else tuple(found.shape)
    if got != expected:
        raise AnswerError(f"Deepstack features of this student must be {expected}. Got {got}.")


def _text(start: int, count: int) -> torch.Tensor:
    return torch.arange(start, start + count).expand(3, -1)
