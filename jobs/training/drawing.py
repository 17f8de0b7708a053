"""The DRAW loop: for each step, questions of the asked queue to groups of the student's answers.

take questions -> rollout pool, a few a call -> judge -> (dynamic sampling: replace and repeat)
  -> (distillation: the teacher scores the answers) -> batch
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING, Any

from jobs.training.asked import Answered, Asked, answered, student_request
from marc_core.errors import TrainingError
from marc_core.evidence import Evidence
from marc_core.models.policy import Drawn
from marc_core.rl.group import teaches

if TYPE_CHECKING:
    from jobs.training.asking import Asking
    from jobs.training.controller import Controller


class Drawing:
    """Makes one batch after another."""

    def __init__(self, controller: Controller, asking: Asking) -> None:
        self.controller, self.asking, self.config = controller, asking, controller.config

    async def run(self, first: int) -> None:
        """Make the batches of step `first` and all that follow."""
        from jobs.training.controller import Batch

        for step in range(first, self.config.steps):
            least = step - self.config.rollout.versions_behind
            version, weights = await self.controller.version(least)
            started = time.monotonic()
            found, facts = await self._answers(step, version, weights)
            if self.config.loss.distillation_weight:
                found = await self._taught(found)
            drawn = sum(len(c.token_ids) for a in found for c in a.completions)
            facts |= self.asking.measured() | {
                "draw_s": time.monotonic() - started,
                "drawn_tokens": float(drawn),
                "queued_asked": float(self.asking.queued),
                "queued_batches": float(self.controller.queued),
            }
            position = self.asking.position
            await self.controller.put(step, Batch(answered=found, position=position, facts=facts))

    async def _answers(
        self, step: int, version: tuple[int, int], weights: tuple[Any, ...]
    ) -> tuple[list[Answered], dict[str, float]]:
        """Return a step's questions with their answers, and how often some were replaced."""
        rollout = self.config.rollout
        kept: list[Answered] = []
        spare: list[Answered] = []
        rounds = 0
        while len(kept) < rollout.questions:
            wanted = rollout.questions - len(kept)
            made = await self._draw(await self.asking.take(wanted), step, version, weights)
            good = [True] * len(made)
            if rollout.dynamic_sampling:
                good = teaches([a.group for a in made], self.config.reward)
            kept += [a for a, ok in zip(made, good, strict=True) if ok]
            spare += [a for a, ok in zip(made, good, strict=True) if not ok]
            if rounds == rollout.refills:
                kept += spare[: rollout.questions - len(kept)]
            rounds += 1
        return kept, {"refills": float(rounds - 1)}

    async def _draw(
        self, asked: list[Asked], step: int, version: tuple[int, int], weights: tuple[Any, ...]
    ) -> list[Answered]:
        size = self.config.rollout_pool.questions_a_call
        parts = [asked[i : i + size] for i in range(0, len(asked), size)]

        async def one(part: list[Asked]) -> list[Answered]:
            given = [student_request(a, self.config, step) for a in part]
            found = await self.controller.rollout.call("draw", given, version, weights)
            return [answered(a, own, self.config) for a, own in zip(part, found, strict=True)]

        return [a for part in await asyncio.gather(*map(one, parts)) for a in part]

    async def _taught(self, found: list[Answered]) -> list[Answered]:
        """Return the same with what the teacher thinks of every answer."""
        loss = self.config.loss
        most = loss.teacher_tokens if loss.distillation == "distribution" else 0
        size = self.config.teacher_pool.questions_a_call
        parts = [found[i : i + size] for i in range(0, len(found), size)]

        async def one(part: list[Answered]) -> list[Answered]:
            drawn = [self._seen_by_teacher(a) for a in part]
            values = iter(await self.controller.teacher.call("score", drawn, most))
            name = "teacher" if most else "teacher_log_probs"
            return [
                dataclasses.replace(
                    a,
                    group=dataclasses.replace(
                        a.group, **{name: tuple(next(values) for _ in a.completions)}
                    ),
                )
                for a in part
            ]

        return [a for part in await asyncio.gather(*map(one, parts)) for a in part]

    def _seen_by_teacher(self, answered: Answered) -> Drawn:
        data = self.controller.rows.teacher(answered.asked.row)
        if not data:
            raise TrainingError(
                f"Question '{answered.asked.sample.id}' of the training set must hold what the "
                "teacher reads, for loss.distillation_weight. Got none: write the set with "
                "store_teacher=true."
            )
        group = answered.group
        return Drawn(
            evidence=Evidence.from_bytes(data), completions=group.completions, record=group.record
        )
