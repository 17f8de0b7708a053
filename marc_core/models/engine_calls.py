"""What both engines do with a request before and after their own work on it.

generate(requests) --rows_of--> rows --engine's thread--> Call.put --> the caller's event loop
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from contextlib import suppress

import torch

from marc_core.config import StudentConfig
from marc_core.errors import AnswerError, MarcError
from marc_core.models.decoding import Row
from marc_core.models.engine import Completion, Delta, GenerationRequest
from marc_core.models.inputs import check_evidence
from marc_core.models.sampling import record_of
from marc_core.models.student_files import StudentFiles
from marc_core.models.text_stream import TextStream


class Call:
    """One `generate` call: where its results go, from the engine's thread to its event loop."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.results: asyncio.Queue[Delta | Completion | MarcError] = asyncio.Queue()

    def put(self, items: Sequence[Delta | Completion | MarcError]) -> None:
        """Hand over results, in order; called on any thread."""

        def deliver() -> None:
            for item in items:
                self.results.put_nowait(item)

        with suppress(RuntimeError):  # its event loop has ended: nobody reads any more
            self.loop.call_soon_threadsafe(deliver)


def rows_of(
    request: GenerationRequest,
    config: StudentConfig,
    files: StudentFiles,
    *,
    end_ids: Sequence[int],
    suppressed_ids: tuple[int, ...],
) -> list[Row]:
    """Return a request's samples. Raises AnswerError for what this student cannot answer."""
    check_evidence(request.evidence, files.adapter, files.vision_fingerprint)
    sampling = request.sampling.or_defaults(
        temperature=config.temperature, max_tokens=config.max_new_tokens
    )
    assert sampling.temperature is not None
    assert sampling.max_tokens is not None
    record = record_of(
        request.evidence.choices,
        sampling.temperature,
        tokenizer=files.tokenizer,
        end_id=end_ids[0],
        suppressed_ids=suppressed_ids,
    )
    return [
        Row(
            request_id=request.id,
            index=i,
            evidence=request.evidence,
            record=record,
            max_tokens=sampling.max_tokens,
            generator=_generator(sampling.seed, i),
            text=TextStream(files.tokenizer, sampling.stop),
        )
        for i in range(sampling.n)
    ]


def check_ids(requests: Sequence[GenerationRequest], under_way: Collection[str]) -> None:
    """Raise AnswerError where an id is given twice or is under way already."""
    ids = [request.id for request in requests]
    if len(set(ids)) < len(ids) or any(i in under_way for i in ids):
        raise AnswerError(
            f"Ids of requests under way must be unique. Got {ids[:5]}, one of them twice."
        )


def _generator(seed: int | None, index: int) -> torch.Generator:
    """Return the random numbers of a request's sample; without a seed fresh ones."""
    generator = torch.Generator()
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed((seed * 1_000_003 + index) % 2**63)
    return generator
