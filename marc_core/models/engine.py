"""The engine that answers: a Protocol over the transformers engine and the vLLM engine.

    requests --generate--> Delta, Delta, Completion, Delta, ...   (interleaved, as they come)

Each request is one question's Evidence and how to sample; each of its n samples streams Deltas
and ends with one Completion. `abort` ends a request within one step.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from marc_core.evidence import Evidence
from marc_core.question import Sampling

if TYPE_CHECKING:
    import torch

FinishReason = Literal["stop", "length", "abort"]
"""stop: an end token or stop text; length: `max_tokens` reached; abort: taken back."""


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One question to answer. id: the caller's own, unique among the requests under way."""

    id: str
    evidence: Evidence
    sampling: Sampling


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """Text that sample `index` of a request has just gained."""

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplingRecord:
    """The distribution that tokens were drawn from, as a trainer must recompute it.

    temperature: 0 for greedy. suppressed_ids: never drawn. choice_ids: token ids of each text among
    which the answer was decoded, with the end token; none where it was free.
    """

    temperature: float
    suppressed_ids: tuple[int, ...]
    choice_ids: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """One finished sample.

    token_ids: with the end token, without padding. log_probs: of each token under the distribution
    that it was drawn from (`sampling`; greedy: under temperature 1). weights_version: of the
    weights that drew it.
    """

    request_id: str
    index: int
    text: str
    token_ids: tuple[int, ...]
    log_probs: tuple[float, ...]
    finish_reason: FinishReason
    weights_version: int
    prompt_tokens: int
    visual_tokens: int
    sampling: SamplingRecord
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineSpec:
    """What a caller must know of an engine before it sends work.

    fingerprint: of the vision tower whose tokens it reads. kv_bytes_per_token: key-value cache of
    one token. own_positions: whether each visual token may have a place and time of its own; where
    not, tokens must form a grid. max_seconds: the longest video, in seconds, that the checkpoint
    was trained on, None where it does not say.
    """

    model: str
    fingerprint: str
    kv_bytes_per_token: int
    own_positions: bool
    max_seconds: float | None = None


class StudentEngine(Protocol):
    """Answers questions from their evidence, many at once."""

    @property
    def spec(self) -> EngineSpec:
        """What this engine is and can express."""
        ...

    def generate(self, requests: Sequence[GenerationRequest]) -> AsyncIterator[Delta | Completion]:
        """Yield what the requests' samples gain, and one Completion for each sample.

        Calls may overlap; their requests then share batches. Raises AnswerError for evidence of
        another vision tower or that the engine cannot express.
        """
        ...

    async def abort(self, request_id: str) -> None:
        """End a request within one step; its samples complete with reason "abort"."""
        ...

    async def load_weights(
        self, weights: Path | Mapping[str, torch.Tensor], version: int, *, lora: bool = False
    ) -> None:
        """Replace the language model's weights (all of them, or a LoRA adapter) between two steps.

        Samples under way go on with the new weights, or are finished with the old ones first.
        Raises ModelLoadError.
        """
        ...

    async def health(self) -> None:
        """Return when the engine can answer. Raises MarcError with the reason where it cannot."""
        ...
