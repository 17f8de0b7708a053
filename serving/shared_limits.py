"""Limits of a key over all replicas of the gateway.

    SharedLimits.enter --own Accounts--> refused at once, without a hop
                       --Counter (a small actor)--> refused, or counted for all
    every SYNC_S       --what is under way here--> Counter

A key without limits costs no hop. The counter is made by whichever gateway comes first and dies
with it; the next look of another one makes a new one, and what all gateways tell it restores the
numbers of requests under way (of requests a minute, a key has saved up its ten seconds again).
While there is none, questions are answered all the same: each gateway counts for itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, Protocol

from ray.exceptions import RayError

from serving.errors import ApiError
from serving.limits import Accounts

log = logging.getLogger("marc.serving")

SYNC_S = 2.0
"""Between two reports of a gateway to the counter (our choice)."""
FORGET_S = 5 * SYNC_S
"""A gateway that has been silent for so long is dead; its requests are no longer under way."""
WAIT_S = 0.5
"""For the counter's answer; after that a gateway counts for itself until the counter answers again
(our choice: a request should not pay for a counter that hangs)."""


class Counting(Protocol):
    """The counter as a gateway calls it."""

    async def enter(
        self, holder: str, key_id: str, per_minute: int, at_once: int
    ) -> ApiError | None:
        """Count a request in, or return why not."""
        ...

    def leave(self, holder: str, key_id: str) -> None:
        """Count a request out, some time; nobody waits for it."""
        ...

    async def sync(self, holder: str, under_way: Mapping[str, int]) -> None:
        """Take over what is under way in a gateway."""
        ...


class Counter:
    """The counts of all gateways. clock: seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts = Accounts(clock)
        self._holders: dict[str, dict[str, int]] = {}
        self._heard_at: dict[str, float] = {}

    async def enter(
        self, holder: str, key_id: str, per_minute: int, at_once: int
    ) -> ApiError | None:
        """Count a request in; see Counting."""
        counts = self._counts(holder)
        elsewhere = sum(c.get(key_id, 0) for c in self._holders.values())
        try:
            self._accounts.enter(key_id, per_minute, at_once, elsewhere)
        except ApiError as refused:
            return refused
        self._accounts.leave(key_id)  # what is under way is counted by gateway
        counts[key_id] = counts.get(key_id, 0) + 1
        return None

    async def leave(self, holder: str, key_id: str) -> None:
        """Count a request out; see Counting."""
        counts = self._counts(holder)
        left = counts.pop(key_id, 0) - 1
        if left > 0:
            counts[key_id] = left

    async def sync(self, holder: str, under_way: Mapping[str, int]) -> None:
        """Take over what is under way in a gateway; see Counting."""
        self._counts(holder)
        self._holders[holder] = dict(under_way)

    def _counts(self, holder: str) -> dict[str, int]:
        now = self._clock()
        self._heard_at[holder] = now
        for other in [h for h, at in self._heard_at.items() if at < now - FORGET_S]:
            del self._heard_at[other]
            self._holders.pop(other, None)
        return self._holders.setdefault(holder, {})


class SharedLimits:
    """Limits over all gateways that `connect` to the same counter. told: whether the counter can be
    reached, at every change."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Counting]],
        *,
        told: Callable[[bool], None] = lambda _: None,
    ) -> None:
        self._connect, self._told = connect, told
        self._holder = uuid.uuid4().hex
        self._own = Accounts()
        self._counter: Counting | None = None

    async def enter(self, key_id: str, per_minute: int, at_once: int) -> None:
        """Count a request in; see Limits."""
        if not per_minute and not at_once:
            return
        self._own.enter(key_id, per_minute, at_once)
        if self._counter is None:
            return
        try:
            async with asyncio.timeout(WAIT_S):
                refused = await self._counter.enter(self._holder, key_id, per_minute, at_once)
        except Exception as error:  # noqa: BLE001 - whatever it is, questions are answered
            self._lose(error)
            return
        except asyncio.CancelledError:
            self._own.leave(key_id)
            raise
        if refused is not None:
            self._own.undo(key_id)
            raise refused

    async def leave(self, key_id: str) -> None:
        """Count a request out; see Limits."""
        if self._own.leave(key_id) and self._counter is not None:
            self._counter.leave(self._holder, key_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Find the counter, and keep it told."""
        await self.sync()
        task = asyncio.create_task(self._keep_told())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def sync(self) -> None:
        """Tell the counter what is under way here; find or make one where there is none."""
        try:
            async with asyncio.timeout(10 * WAIT_S):
                counter = self._counter or await self._connect()
                await counter.sync(self._holder, self._own.under_way())
        except Exception as error:  # noqa: BLE001 - tried again in a moment
            self._lose(error)
            return
        if self._counter is None:
            self._counter = counter
            self._told(True)

    async def _keep_told(self) -> None:
        while True:
            await asyncio.sleep(SYNC_S)
            await self.sync()

    def _lose(self, error: Exception) -> None:
        if self._counter is not None:
            log.warning("limits count here alone for now: %s: %s", type(error).__name__, error)
            self._told(False)
        self._counter = None


class _Remote:
    """A Counter in an actor."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    async def enter(
        self, holder: str, key_id: str, per_minute: int, at_once: int
    ) -> ApiError | None:
        found: ApiError | None = await self._actor.enter.remote(holder, key_id, per_minute, at_once)
        return found

    def leave(self, holder: str, key_id: str) -> None:
        with suppress(RayError):  # the next sync says it again
            self._actor.leave.remote(holder, key_id)

    async def sync(self, holder: str, under_way: Mapping[str, int]) -> None:
        await self._actor.sync.remote(holder, dict(under_way))


def counter_of(name: str) -> Callable[[], Awaitable[Counting]]:
    """Return how a gateway of an application finds its counter, or makes it."""

    async def connect() -> Counting:
        import ray

        options: Any = {
            "name": f"marc-limits:{name}", "namespace": "marc", "get_if_exists": True,
            "num_cpus": 0, "max_pending_calls": 10_000,
        }  # fmt: skip
        actor = await asyncio.to_thread(ray.remote(Counter).options(**options).remote)
        return _Remote(actor)

    return connect
