"""The actors of both pools: a model each, many questions at once, and their process's id.

RolloutActor   the student; takes newer weights before it answers, if it lacks them
TeacherActor   the teacher on all frames; answers, and scores what the student has answered

An actor that died comes back without weights and without memory of calls: every call carries all
that it needs, so that Ray may simply do it again.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from jobs.training.asked import engine_requests
from jobs.training.lora import adapter_directory
from jobs.training.weights import unpacked
from marc_core.config import StudentConfig
from marc_core.models.engine import Completion
from marc_core.question import Sampling

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import LearnerConfig
    from marc_core.models.policy import Drawn

Request = tuple[str, bytes, Sampling]
"""(id, Evidence.to_bytes, how to sample)."""


class Reply(NamedTuple):
    """What an actor returns, and which process it was."""

    pid: int
    value: Any


class _Reader:
    """A model that is loaded when it is first needed."""

    def __init__(self, model: StudentConfig) -> None:
        self.model = model
        self._calls = 0

    @cached_property
    def engine(self) -> Any:
        """The engine that the model's section names."""
        from marc_core.models.engines import load_engine

        return load_engine(self.model)

    async def ready(self) -> Reply:
        """Load the model. Raises ModelLoadError."""
        _ = self.engine
        return Reply(os.getpid(), None)

    async def completions(self, given: Sequence[Request]) -> list[list[Completion]]:
        """Return each request's completions, in order."""
        self._calls += 1  # ids of a call that nobody waits for any more are still under way
        given = [(f"{self._calls}/{id}", data, sampling) for id, data, sampling in given]
        requests = engine_requests(given)
        found: dict[tuple[str, int], Completion] = {}
        async for item in self.engine.generate(requests):
            if isinstance(item, Completion):
                found[item.request_id, item.index] = item
        return [[found[r.id, i] for i in range(r.sampling.n)] for r in requests]


class RolloutActor(_Reader):
    """Draws the student's answers. learner: says whether weights are a LoRA adapter."""

    def __init__(self, model: StudentConfig, learner: LearnerConfig) -> None:
        super().__init__(model)
        self.learner, self.loaded = learner, (0, 0)
        self._loading = asyncio.Lock()

    async def draw(
        self, given: Sequence[Request], version: tuple[int, int], weights: Sequence[Any]
    ) -> Reply:
        """Return completions under weights of this version at least.

        version: (how often the run has begun, step): one that went back to a checkpoint has newer
        weights at an earlier step. weights: [reference to `weights.packed`], in a list so that Ray
        does not fetch it for every call.
        """
        async with self._loading:
            if self.loaded < version:
                await self._load(unpacked(await weights[0]), version[1])
                self.loaded = version
        return Reply(os.getpid(), await self.completions(given))

    async def _load(self, tensors: dict[str, Any], version: int) -> None:
        if not self.learner.lora_rank:
            await self.engine.load_weights(tensors, version)
            return
        with tempfile.TemporaryDirectory() as folder:
            directory = adapter_directory(tensors, self.learner, Path(folder))
            await self.engine.load_weights(directory, version, lora=True)


class TeacherActor(_Reader):
    """Asks the full-token teacher."""

    async def answer(self, given: Sequence[Request]) -> Reply:
        """Return the texts of each question's answers."""
        found = await self.completions(given)
        return Reply(os.getpid(), [tuple(c.text for c in own) for own in found])

    async def score(self, drawn: Sequence[Drawn], most: int) -> Reply:
        """Return the teacher's distribution at each token of each completion, one after another.

        drawn: the student's completions, with what the teacher reads as evidence. most: ids that
        are named at each token; 0 returns the log-probabilities of the drawn tokens alone.
        """
        return Reply(os.getpid(), await asyncio.to_thread(self._score, drawn, most))

    def _score(self, drawn: Sequence[Drawn], most: int) -> list[Any]:
        import torch

        from marc_core.models.policy import Policy

        files, engine = self.engine.files, self.engine
        padding = files.tokenizer.pad_token_id
        pad_id = files.tokenizer.eos_token_id if padding is None else padding
        policy = Policy(engine.model, files.adapter, pad_id=pad_id)
        if most:
            return list(policy.distributions(drawn, most))
        with torch.no_grad():
            return [tuple(x.tolist()) for x in policy(drawn).log_probs]
