"""The controller of a C-GRPO run: two loops, two queues, and who waits for whom.

    rows --order--> ASK loop ------> asked queue --> DRAW loop --------> batches --> workers of
                    |   ^            teacher_ahead   |   ^      |        of steps    Ray Train
                    v   |            calls           v   |      |                       |
                    teacher pool                     rollout    |                       |
                    (cache on disk)                  pool       |                       |
                        ^                              ^        |                       |
                        +---- distillation: scores ----|--------+                       |
                                                       +---- weights, version --- publish

    ASK waits    while `teacher_ahead` calls are done or under way and no step has taken them.
    DRAW waits   for questions, and until weights of step s - versions_behind are published: with
                 versions_behind = 0 rollouts and updates take turns, above it they overlap.
    A pool       takes `calls` calls an actor; the others wait for a free place.
    A worker     waits in `batch(step)` until DRAW has the batch; all workers get shares of one.
    Nobody else waits. Each wait is measured and stands in the curve: `wait_s`, `idle_learner`,
    `idle_rollout`, `idle_teacher`, `queued_asked`, `queued_batches`.

The controller holds no model and no state that a restart needs: workers begin a run, or go on with
it after a death, by `begin(step, position, weights)`, and everything else starts over from there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jobs.training.actors import RolloutActor, TeacherActor
from jobs.training.asked import Answered, Asked, shown
from jobs.training.asking import Asking
from jobs.training.drawing import Drawing
from jobs.training.order import Order
from jobs.training.pools import RETRIES, Pool
from jobs.training.run_log import RunLog
from jobs.training.teacher_cache import TeacherCache
from jobs.training.train_rows import TrainRows
from marc_core.errors import MarcError

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import CGrpoJobConfig, PoolConfig
    from marc_core.rl.group import Group


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A step's groups. position: where the next step goes on in the order. facts: what was
    measured on the way."""

    answered: list[Answered]
    position: int
    facts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Share:
    """A worker's part of a batch."""

    groups: list[Group]
    position: int


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """The run has ended before its last step, for a reason that a restart would meet again."""

    reason: str


class Controller:
    """Runs as one actor, on the node that started the run. room: placement group of the pools,
    the teacher's bundles first. teacher: fingerprint of the teacher and of how it is asked."""

    def __init__(self, config: CGrpoJobConfig, room: Any, teacher: str) -> None:
        self.config = config
        self.rows = TrainRows(config.train_set, config.storage_options)
        self.log = RunLog(config)
        self.cache = TeacherCache(config.cache_place, teacher, config.storage_options)
        self.order = Order(len(self.rows), config.seed)
        own = config.teacher_pool
        asked, drawn = (config.teacher_reader,), (config.rollout_model, config.learner)
        self.teacher = self._pool("teacher", TeacherActor, asked, own, room, 0)
        self.rollout = self._pool(
            "rollout", RolloutActor, drawn, config.rollout_pool, room, own.actors
        )
        self._loops: list[asyncio.Task[None]] = []
        self._batches: dict[int, Batch] = {}
        self._changed = asyncio.Condition()
        self._failure: BaseException | None = None
        self._stopped: Stopped | None = None
        self._begun, self._version, self._weights = 0, -1, ()
        self._done, self._heard = 0, time.monotonic()

    async def ready(self) -> None:
        """Return when every actor has its model. Raises ClusterError, ModelLoadError."""
        limit = self.config.start_timeout_s
        await asyncio.gather(self.teacher.start(limit), self.rollout.start(limit))

    async def begin(self, step: int, position: int, weights: Sequence[Any]) -> None:
        """Start over at this step with these weights; called by rank 0 alone, before any batch."""
        for loop in self._loops:
            loop.cancel()
        await asyncio.gather(*self._loops, return_exceptions=True)
        self._batches.clear()
        self._failure = None
        self.log.begin(step)
        if step:
            self.log.say(f"Training goes on from the checkpoint of step {step}.")
        self._begun += 1
        self._version, self._weights, self._done = step, tuple(weights), step
        asking = Asking(self, position)
        drawing = Drawing(self, asking)
        self._loops = [
            asyncio.create_task(self._guarded(asking.run())),
            asyncio.create_task(self._guarded(drawing.run(step))),
        ]

    async def batch(self, step: int, rank: int, size: int) -> Share | Stopped:
        """Return a worker's share of the step's batch, when there is one. Raises what ended a
        loop, unless a restart would meet it again."""
        self._heard = time.monotonic()
        if not self._loops:
            raise RuntimeError("The controller has been started again and knows no run yet.")
        async with self._changed:
            await self._changed.wait_for(
                lambda: step in self._batches or self._failure or self._stopped
            )
            if self._stopped is not None:
                return self._stopped
            if self._failure is not None:
                raise self._failure
            found = self._batches[step]
            for old in [s for s in self._batches if s < step - 1]:
                del self._batches[old]
        groups = [a.group for a in found.answered[rank::size]]
        return Share(groups=groups, position=found.position)

    async def publish(self, step: int, weights: Sequence[Any], metrics: dict[str, float]) -> None:
        """Take the weights that `step` steps have made, and what the last of them looked like."""
        self._heard = time.monotonic()
        async with self._changed:
            self._version, self._weights, self._done = step, tuple(weights), step
            batch = self._batches[step - 1]
            self._changed.notify_all()
        facts = batch.facts | {
            "idle_teacher": self.teacher.idle_share(),
            "idle_rollout": self.rollout.idle_share(),
            "restarts": float(self.teacher.restarts + self.rollout.restarts),
        }
        kept = batch.answered[: self.config.sample_questions]
        self.log.step(step, metrics | facts, [shown(a, self.config) for a in kept])

    async def stop(self, reason: str) -> None:
        """End the run; what waits is let go."""
        async with self._changed:
            self._stopped = Stopped(reason=reason)
            self._changed.notify_all()
        self.log.say(reason)

    async def close(self) -> None:
        """Write what is not written yet, and end the pools."""
        for loop in self._loops:
            loop.cancel()
        self.cache.flush()
        self.log.close()
        for actor in (*self.teacher.actors, *self.rollout.actors):
            self._end(actor)

    async def state(self) -> dict[str, Any]:
        """Return how far the run is, and what people have not been told yet."""
        return {
            "step": self._done,
            "steps": self.config.steps,
            "metrics": self.log.last,
            "said": self.log.unsaid(),
            "stopped": None if self._stopped is None else self._stopped.reason,
            "silent_s": time.monotonic() - self._heard,
        }

    # For the loops

    async def version(self, least: int) -> tuple[tuple[int, int], tuple[Any, ...]]:
        """Return the newest weights, when they are those of step `least` or later."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._version >= least)
            return (self._begun, self._version), self._weights

    async def put(self, step: int, batch: Batch) -> None:
        """Hand a batch to the workers."""
        async with self._changed:
            self._batches[step] = batch
            self._changed.notify_all()

    @property
    def queued(self) -> int:
        """Batches that no update has used yet."""
        return sum(step >= self._done for step in self._batches)

    def asked_at(self, position: int) -> Asked:
        """Return the question at this place of the order."""
        row = self.order.row(position)
        return Asked(position=position, row=row, sample=self.rows.sample(row))

    async def _guarded(self, loop: Any) -> None:
        try:
            await loop
        except asyncio.CancelledError:
            raise
        except MarcError as error:  # the user's to mend: a restart would meet it again
            await self.stop(str(getattr(error, "cause", error)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, no worker may wait for ever
            async with self._changed:
                self._failure = error
                self._changed.notify_all()

    def _end(self, actor: Any) -> None:
        import ray

        ray.kill(actor)

    def _pool(
        self, name: str, kind: Any, args: tuple[Any, ...], own: PoolConfig, room: Any, first: int
    ) -> Pool:
        import ray
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        made = ray.remote(kind)
        actors = [
            made.options(
                num_cpus=own.cpus,
                num_gpus=own.gpus,
                max_restarts=-1,
                max_task_retries=RETRIES,
                max_concurrency=own.calls + 1,
                scheduling_strategy=PlacementGroupSchedulingStrategy(
                    placement_group=room, placement_group_bundle_index=first + i
                ),
            ).remote(*args)
            for i in range(own.actors)
        ]
        limit = self.config.call_timeout_s
        return Pool(name, actors, calls=own.calls, timeout_s=limit, say=self.log.say)
