"""What one key may take: requests a minute, and requests at once.

Accounts       the counts of one process
LocalLimits    a gateway that is the only one
SharedLimits   several gateways: serving.shared_limits
"""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from serving.errors import ApiError

BURST_S = 10.0
"""A key that was idle may send what it has saved up over so many seconds (our choice)."""
MOST_ACCOUNTS = 10_000
"""From so many keys on, those that are idle are forgotten (our choice)."""


class Limits(Protocol):
    """Admits requests of keys. per_minute, at_once: 0 is no limit."""

    async def enter(self, key_id: str, per_minute: int, at_once: int) -> None:
        """Count a request in. Raises a 429."""
        ...

    async def leave(self, key_id: str) -> None:
        """Count a request out."""
        ...

    def running(self) -> AbstractAsyncContextManager[None]:
        """Do what goes on beside the requests, as long as the block runs."""
        ...


@dataclass
class _Account:
    saved: float
    at: float
    most: float
    under_way: int = 0


class Accounts:
    """The counts of keys in one process. clock: seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def enter(self, key_id: str, per_minute: int, at_once: int, elsewhere: int = 0) -> None:
        """Count a request in; see Limits. elsewhere: under way in other processes."""
        account = self._account(key_id, per_minute)
        if at_once and account.under_way + elsewhere >= at_once:
            message = f"This key may have {at_once} requests under way at once. Wait for one."
            raise ApiError(429, "concurrency_limit", message, retry_after_s=1)
        if per_minute and account.saved < 1:
            wait_s = math.ceil((1 - account.saved) / (per_minute / 60))
            message = f"This key may send {per_minute} requests a minute. Try again in {wait_s} s."
            raise ApiError(429, "rate_limit", message, retry_after_s=wait_s)
        account.saved -= 1
        account.under_way += 1

    def leave(self, key_id: str) -> bool:
        """Count a request out; return whether one was counted in."""
        account = self._accounts.get(key_id)
        if account is None or not account.under_way:
            return False
        account.under_way -= 1
        return True

    def undo(self, key_id: str) -> None:
        """Take back an `enter` as if it had not been."""
        self.leave(key_id)
        account = self._accounts[key_id]
        account.saved = min(account.most, account.saved + 1)

    def under_way(self) -> dict[str, int]:
        """Return the requests under way of every key that has some."""
        return {key: a.under_way for key, a in self._accounts.items() if a.under_way}

    def _account(self, key_id: str, per_minute: int) -> _Account:
        now, rate = self._clock(), per_minute / 60
        most = max(1.0, rate * BURST_S)
        account = self._accounts.get(key_id)
        if account is None:
            self._forget_idle(now)
            account = self._accounts[key_id] = _Account(most, now, most)
        account.saved = min(most, max(0.0, account.saved) + (now - account.at) * rate)
        account.at, account.most = now, most
        return account

    def _forget_idle(self, now: float) -> None:
        if len(self._accounts) >= MOST_ACCOUNTS:
            self._accounts = {
                key: account
                for key, account in self._accounts.items()
                if account.under_way or now - account.at < BURST_S
            }


class LocalLimits:
    """Limits of one process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._accounts = Accounts(clock)

    async def enter(self, key_id: str, per_minute: int, at_once: int) -> None:
        """Count a request in; see Limits."""
        self._accounts.enter(key_id, per_minute, at_once)

    async def leave(self, key_id: str) -> None:
        """Count a request out; see Limits."""
        self._accounts.leave(key_id)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Nothing goes on beside the requests."""
        yield
