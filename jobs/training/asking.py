"""The ASK loop: questions in their order, each with the teacher's answers, a few calls ahead."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from typing import TYPE_CHECKING

from jobs.training.asked import Asked, can_be_judged, teacher_request
from jobs.training.teacher_cache import key_of
from marc_core.errors import TrainingError

if TYPE_CHECKING:
    from jobs.training.controller import Controller


class Asking:
    """Fills a bounded queue from a position of the order on."""

    def __init__(self, controller: Controller, position: int) -> None:
        self.controller, self.config = controller, controller.config
        self.next, self.position = position, position
        self._queue: asyncio.Queue[asyncio.Task[list[Asked]]] = asyncio.Queue(
            self.config.teacher_ahead
        )
        self._rest: list[Asked] = []
        self._under_way: dict[str, asyncio.Future[None]] = {}
        self._skipped_in_a_row = 0
        self.facts = {"teacher_s": 0.0, "asked": 0.0, "cached": 0.0, "skipped": 0.0}

    async def run(self) -> None:
        """Ask for ever; ends with the task that it runs in."""
        size = self.config.teacher_pool.questions_a_call
        tasks: set[asyncio.Task[list[Asked]]] = set()
        try:
            while True:
                part = [self.controller.asked_at(self.next + i) for i in range(size)]
                self.next += size
                task = asyncio.create_task(self._with_teacher(part))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
                await self._queue.put(task)
        finally:
            for task in tasks:
                task.cancel()

    async def take(self, count: int) -> list[Asked]:
        """Return the next questions that can be judged. Raises TrainingError where there is none
        in a whole epoch, and what asking the teacher raises."""
        found: list[Asked] = []
        while len(found) < count:
            if not self._rest:
                self._rest = await (await self._queue.get())
            asked = self._rest.pop(0)
            self.position = asked.position + 1
            if can_be_judged(asked, self.config):
                found.append(asked)
                self._skipped_in_a_row = 0
                continue
            self.facts["skipped"] += 1
            self._skipped_in_a_row += 1
            if self._skipped_in_a_row > len(self.controller.rows):
                raise TrainingError(
                    "No question of the training set can be judged: none has a right answer, and "
                    "the teacher's answers agree too little, or nobody asks it. Lower "
                    "reward.least_agreement, or set teacher_pool.actors."
                )
        return found

    @property
    def queued(self) -> int:
        """Teacher calls that no step has taken yet."""
        return self._queue.qsize()

    def measured(self) -> dict[str, float]:
        """Return what was counted since the last look."""
        found, self.facts = self.facts, dict.fromkeys(self.facts, 0.0)
        return found

    async def _with_teacher(self, part: list[Asked]) -> list[Asked]:
        cache, rows = self.controller.cache, self.controller.rows
        keys = [key_of(asked.sample, rows.fingerprint) for asked in part]
        self.facts["cached"] += sum(cache.get(key) is not None for key in keys)
        if self.config.teacher_pool.actors:
            wanted = {
                key: asked
                for key, asked in zip(keys, part, strict=True)
                if cache.get(key) is None and self._needs(asked)
            }
            others = [self._under_way[key] for key in wanted if key in self._under_way]
            await self._ask({k: a for k, a in wanted.items() if k not in self._under_way})
            await asyncio.gather(*others)
        return [
            dataclasses.replace(asked, texts=cache.get(key) or ())
            for asked, key in zip(part, keys, strict=True)
        ]

    async def _ask(self, wanted: dict[str, Asked]) -> None:
        """Ask the teacher; whoever wants the same meanwhile waits for this call."""
        if not wanted:
            return
        done = asyncio.get_running_loop().create_future()
        self._under_way |= dict.fromkeys(wanted, done)
        started = time.monotonic()
        try:
            given = [teacher_request(a, self._evidence(a), self.config) for a in wanted.values()]
            texts = await self.controller.teacher.call("answer", given)
            for key, own in zip(wanted, texts, strict=True):
                self.controller.cache.put(key, own)
        finally:
            for key in wanted:
                del self._under_way[key]
            done.set_result(None)
        self.facts["asked"] += len(wanted)
        self.facts["teacher_s"] += time.monotonic() - started

    def _needs(self, asked: Asked) -> bool:
        """Images take part without a teacher, except as judge where no answer is known."""
        return not (asked.sample.is_image and asked.sample.answers)

    def _evidence(self, asked: Asked) -> bytes:
        data = self.controller.rows.teacher(asked.row)
        if not data:
            raise TrainingError(
                f"Question '{asked.sample.id}' of the training set must hold what the teacher "
                "reads. Got none: write the set with store_teacher=true, or train without a "
                "teacher (teacher_pool.actors=0 reward.alpha=0)."
            )
        return data
