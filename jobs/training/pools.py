"""A pool of actors: bounded calls, restarts that are said, and how long its actors had nothing.

call -> waits for a free place -> an actor's queue (`calls` long) -> reply
an actor's process dies -> Ray starts it again and repeats its calls -> the pid has changed
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

from marc_core.errors import ClusterError

RETRIES = 3
"""Times that Ray repeats a call whose actor died; a question that kills every actor ends the run
(our choice)."""
AGAIN_S = 1.0
"""Seconds before an actor that could not be reached is called again (our choice)."""


class Pool:
    """actors: handles whose methods return `Reply`. calls: that one takes at once. say: takes what
    people should know."""

    def __init__(
        self,
        name: str,
        actors: Sequence[Any],
        *,
        calls: int,
        timeout_s: float,
        say: Callable[[str], None],
    ) -> None:
        self.name, self.actors, self.timeout_s, self._say = name, actors, timeout_s, say
        self.restarts = self.waiting = 0
        self._places: asyncio.Queue[int] = asyncio.Queue()
        for _ in range(calls):
            for i in range(len(actors)):
                self._places.put_nowait(i)
        self._pids: dict[int, int] = {}
        self._under_way = [0] * len(actors)
        self._since, self._busy_s = time.monotonic(), 0.0
        self._began = [0.0] * len(actors)

    async def start(self, timeout_s: float) -> None:
        """Return when all actors have loaded their models. Raises ClusterError, ModelLoadError."""
        for i in range(len(self.actors)):
            reply = await self._repeated(i, "ready", (), timeout_s)
            self._pids[i] = reply.pid

    async def call(self, method: str, *args: Any) -> Any:
        """Return what `method` of a free actor returns. Raises ClusterError, and what it raises."""
        self.waiting += 1
        try:
            i = await self._places.get()
        finally:
            self.waiting -= 1
        self._enter(i)
        try:
            reply = await self._repeated(i, method, args, self.timeout_s)
            self._note(i, reply.pid)
            return reply.value
        finally:
            self._leave(i)
            self._places.put_nowait(i)

    def idle_share(self) -> float:
        """Return the share of the time since the last look in which an actor had nothing to do."""
        now = time.monotonic()
        for i, n in enumerate(self._under_way):
            if n:
                self._busy_s += now - self._began[i]
                self._began[i] = now
        whole = max(1e-9, (now - self._since) * len(self.actors))
        idle = 1.0 - self._busy_s / whole
        self._since, self._busy_s = now, 0.0
        return max(0.0, idle)

    async def _repeated(self, i: int, method: str, args: tuple[Any, ...], timeout_s: float) -> Any:
        """Call an actor; where it cannot be reached, which uses up Ray's own retries before Ray
        knows that a node is lost, again and again until there is no time left."""
        from ray.exceptions import ActorUnavailableError

        end, said = time.monotonic() + timeout_s, False
        while (left_s := end - time.monotonic()) > 0:
            try:
                ref = getattr(self.actors[i], method).remote(*args)
                return await self._reply(ref, left_s)
            except ActorUnavailableError:
                if not said:
                    self._say(f"Actor {i} of the {self.name} pool cannot be reached; waiting.")
                said = True
                await asyncio.sleep(AGAIN_S)
        raise self._late()

    async def _reply(self, ref: Any, timeout_s: float) -> Any:
        from ray.exceptions import ActorUnavailableError, RayActorError

        try:
            return await asyncio.wait_for(_awaited(ref), timeout_s)
        except ActorUnavailableError:
            raise
        except TimeoutError:
            raise self._late() from None
        except RayActorError as error:
            raise ClusterError(
                f"An actor of the {self.name} pool died {RETRIES + 1} times over one call: "
                f"{_first_line(error)}. Where memory ran out, lower "
                f"{self.name}_pool.questions_a_call."
            ) from error

    def _late(self) -> ClusterError:
        return ClusterError(
            f"The {self.name} pool has not answered in time. Its actors wait for room on the "
            f"cluster, or a call takes longer than {self.timeout_s:g} s: lower "
            f"{self.name}_pool.questions_a_call, or raise call_timeout_s."
        )

    def _note(self, i: int, pid: int) -> None:
        before = self._pids.get(i)
        self._pids[i] = pid
        if before is not None and before != pid:
            self.restarts += 1
            self._say(
                f"Actor {i} of the {self.name} pool died and was started again (process {before} "
                f"-> {pid}); its work was done again."
            )

    def _enter(self, i: int) -> None:
        if not self._under_way[i]:
            self._began[i] = time.monotonic()
        self._under_way[i] += 1

    def _leave(self, i: int) -> None:
        self._under_way[i] -= 1
        if not self._under_way[i]:
            self._busy_s += time.monotonic() - self._began[i]


async def _awaited(ref: Any) -> Any:
    return await ref


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
