"""Which tokens vLLM may draw: `marc_core.models.sampling`'s rule, inside vLLM's own process.

vLLM asks this module by name for `AnswerTokens` (`logits_processors`), a subclass of its own; the
class is built then, so that the module can be imported without vLLM.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from marc_core.models.sampling import keep_only, next_ids, suppressed_ids
from marc_core.models.vllm_requests import CHOICES


class _AnswerTokens:
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
        from vllm.v1.sample.logits_processor import process_dict_updates

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


def __getattr__(name: str) -> Any:
    if name == "AnswerTokens":
        return _answer_tokens()
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


@cache
def _answer_tokens() -> type:
    from vllm.v1.sample.logits_processor import LogitsProcessor

    return type("AnswerTokens", (_AnswerTokens, LogitsProcessor), {"__module__": __name__})
