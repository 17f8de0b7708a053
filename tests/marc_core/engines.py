"""An engine without a language model: it answers at once, and says what it was given."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from marc_core.models.engine import (
    Completion,
    Delta,
    EngineSpec,
    GenerationRequest,
    SamplingRecord,
)


class EchoEngine:
    """Answers with its first choice, else with the first digits of the evidence's key and the
    sample's index: equal evidence, equal answer."""

    def __init__(self) -> None:
        self.requests: list[GenerationRequest] = []
        self.aborted: list[str] = []

    @property
    def spec(self) -> EngineSpec:
        return EngineSpec(
            model="echo", fingerprint="echo", kv_bytes_per_token=10, own_positions=True
        )

    async def generate(
        self, requests: Sequence[GenerationRequest]
    ) -> AsyncIterator[Delta | Completion]:
        self.requests += requests
        for request in reversed(requests):  # they need not come in order
            for index in reversed(range(request.sampling.n)):
                text = self._text(request, index)
                yield Delta(request_id=request.id, index=index, text=text, token_ids=(1,))
                yield self._completion(request, index, text)

    def _text(self, request: GenerationRequest, index: int) -> str:
        choices = request.evidence.choices
        return choices[0] if choices else f"{request.evidence.key[:8]} {index}"

    def _completion(self, request: GenerationRequest, index: int, text: str) -> Completion:
        evidence = request.evidence
        prompt = len(evidence.before_ids) + len(evidence.after_ids) + evidence.num_tokens
        return Completion(
            request_id=request.id, index=index, text=text, token_ids=(1, 2),
            log_probs=(-0.5, -0.5), finish_reason="stop", weights_version=0,
            prompt_tokens=prompt, visual_tokens=evidence.num_tokens,
            sampling=SamplingRecord(
                temperature=request.sampling.temperature or 0.0, suppressed_ids=()
            ),
        )  # fmt: skip

    async def abort(self, request_id: str) -> None:
        self.aborted.append(request_id)

    async def load_weights(
        self, weights: Path | Mapping[str, Any], version: int, *, lora: bool = False
    ) -> None:
        raise NotImplementedError("an echo has no weights")

    async def health(self) -> None:
        return None
