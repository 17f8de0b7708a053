"""Which tokens vLLM may draw: `marc_core.models.sampling`'s rule, inside vLLM's own process.

vLLM imports this module by its name (`logits_processors`); nothing else does, since it needs vLLM.
"""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import LogitsProcessor, process_dict_updates

from marc_core.models.sampling import keep_only, next_ids, suppressed_ids
from marc_core.models.vllm_requests import CHOICES


class AnswerTokens(LogitsProcessor):  # type: ignore[misc]  # vLLM is not installed where mypy runs
    """Rules out visual tokens, and what none of a request's choices continues with."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:
        ids = suppressed_ids(vllm_config.model_config.hf_config)
        self._suppressed = torch.tensor(ids, device=device)
        self._rows: dict[int, tuple[list[list[int]], list[int]]] = {}

    def is_argmax_invariant(self) -> bool:
        """Return False: greedy answers, too, depend on what may be drawn."""
        return False

    def update_state(self, batch_update: Any) -> None:
        """Follow the rows of the batch; vLLM extends each row's list of drawn ids itself."""
        process_dict_updates(self._rows, batch_update, _row)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """Set what cannot be drawn to -inf, in place."""
        logits.index_fill_(1, self._suppressed, -torch.inf)
        for row, (choices, drawn) in self._rows.items():
            assert -1 not in drawn, "vLLM has not filled in the ids drawn so far"
            keep_only(logits[row], next_ids(choices, drawn))
        return logits


def _row(
    params: Any, prompt_ids: list[int] | None, drawn: list[int]
) -> tuple[list[list[int]], list[int]] | None:
    choices = (params.extra_args or {}).get(CHOICES)
    return (choices, drawn) if choices else None
