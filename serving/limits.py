"""What one key may take: requests a minute, and requests at once."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from serving.errors import ApiError

BURST_S = 10.0
"""A key that was idle may send what it has saved up over so many seconds (our choice)."""


class Limits(Protocol):
    """Admits requests of keys; shared by all replicas of the gateway."""

    async def enter(self, key_id: str, per_minute: int, at_once: int) -> None:
        """Count a request in. Raises a 429."""
        ...

    async def leave(self, key_id: str) -> None:
        """Count a request out."""
        ...


@dataclass
class _Account:
    saved: float
    at: float
    under_way: int = 0


class LocalLimits:
    """Limits of one process. clock: seconds, for tests."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    async def enter(self, key_id: str, per_minute: int, at_once: int) -> None:
        """Count a request in; see Limits."""
        now, rate = self._clock(), per_minute / 60
        most = max(1.0, rate * BURST_S)
        account = self._accounts.setdefault(key_id, _Account(most, now))
        account.saved = min(most, account.saved + (now - account.at) * rate)
        account.at = now
        if account.under_way >= at_once:
            message = f"This key may have {at_once} requests under way at once. Wait for one."
            raise ApiError(429, "concurrency_limit", message, retry_after_s=1)
        if account.saved < 1:
            wait_s = math.ceil((1 - account.saved) / rate)
            message = f"This key may send {per_minute} requests a minute. Try again in {wait_s} s."
            raise ApiError(429, "rate_limit", message, retry_after_s=wait_s)
        account.saved -= 1
        account.under_way += 1

    async def leave(self, key_id: str) -> None:
        """Count a request out; see Limits."""
        account = self._accounts[key_id]
        account.under_way -= 1
