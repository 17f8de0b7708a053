"""Limits of a key over several gateways, and what happens when their counter is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from serving import limits as limits_module
from serving.errors import ApiError
from serving.limits import Accounts
from serving.shared_limits import FORGET_S, SYNC_S, Counter, SharedLimits, counter_of


class InProcess:
    """A counter here, which can be made to fail or to hang; counts its calls."""

    def __init__(self, counter: Counter) -> None:
        self.counter, self.calls = counter, 0
        self.error: Exception | None = None
        self.hangs = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def enter(self, *args: Any) -> ApiError | None:
        self.calls += 1
        await self._fail()
        return await self.counter.enter(*args)

    def leave(self, holder: str, key_id: str) -> None:
        if self.error is None and not self.hangs:
            self._tasks.add(asyncio.create_task(self.counter.leave(holder, key_id)))

    async def sync(self, holder: str, under_way: Mapping[str, int]) -> None:
        await self._fail()
        await self.counter.sync(holder, under_way)

    async def _fail(self) -> None:
        if self.hangs:
            await asyncio.sleep(3600)
        if self.error is not None:
            raise self.error


def gateway(counting: InProcess, told: Callable[[bool], None] = lambda _: None) -> SharedLimits:
    async def connect() -> InProcess:
        return counting

    return SharedLimits(connect, told=told)


async def code_of(limits: SharedLimits, per_minute: int, at_once: int, key: str = "k") -> str:
    try:
        await limits.enter(key, per_minute, at_once)
    except ApiError as refused:
        return refused.code
    return "ok"


def test_two_gateways_share_a_keys_limits() -> None:
    async def run() -> None:
        counting = InProcess(Counter())
        one, other = gateway(counting), gateway(counting)
        await one.sync()
        await other.sync()
        assert [await code_of(g, 0, 2) for g in (one, other, one, other)] == [
            "ok", "ok", "concurrency_limit", "concurrency_limit"
        ]  # fmt: skip
        await other.leave("k")
        await asyncio.sleep(0)
        assert await code_of(one, 0, 2) == "ok"
        found = [await code_of(g, 24, 0, "slow") for g in (one, other) * 4]
        assert found.count("ok") == 4  # what 24 a minute save up in ten seconds
        assert set(found) == {"ok", "rate_limit"}

    asyncio.run(run())


def test_a_key_without_limits_and_one_over_them_here_cost_no_hop() -> None:
    async def run() -> None:
        counting = InProcess(Counter())
        limits = gateway(counting)
        await limits.sync()
        await limits.enter("free", 0, 0)
        await limits.leave("free")
        assert counting.calls == 0
        assert [await code_of(limits, 0, 1) for _ in range(3)] == [
            "ok", "concurrency_limit", "concurrency_limit"
        ]  # fmt: skip
        assert counting.calls == 1

    asyncio.run(run())


@pytest.mark.parametrize("failure", ["dies", "hangs"])
def test_without_its_counter_each_gateway_counts_for_itself(
    failure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serving.shared_limits.WAIT_S", 0.05)
    told: list[bool] = []

    async def run() -> None:
        counting = InProcess(Counter())
        one, other = gateway(counting, told.append), gateway(counting)
        await one.sync()
        await other.sync()
        assert await code_of(other, 0, 2) == "ok"
        if failure == "dies":
            counting.error = RuntimeError("the actor died")
        else:
            counting.hangs = True
        assert [await code_of(one, 0, 2) for _ in range(3)] == ["ok", "ok", "concurrency_limit"]
        assert counting.calls == 2  # the first that fails is the last that is tried
        counting.error, counting.hangs, counting.counter = None, False, Counter()
        await one.sync()
        await other.sync()
        assert await code_of(other, 0, 3) == "concurrency_limit"  # 2 here, 1 there: restored
        assert await code_of(other, 0, 4) == "ok"
        assert told == [True, False, True]

    asyncio.run(run())


def test_what_a_dead_gateway_had_under_way_is_forgotten() -> None:
    now = [0.0]

    async def run() -> None:
        counter = Counter(lambda: now[0])
        assert await counter.enter("dead", "k", 0, 1) is None
        assert isinstance(await counter.enter("alive", "k", 0, 1), ApiError)
        now[0] = FORGET_S + 1
        await counter.sync("alive", {})
        assert await counter.enter("alive", "k", 0, 1) is None

    asyncio.run(run())


def test_counts_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "MOST_ACCOUNTS", 5)
    now = [0.0]
    accounts = Accounts(lambda: now[0])
    accounts.enter("busy", 0, 1)
    for i in range(50):
        now[0] += 5
        accounts.enter(f"k{i}", 60, 1)
        accounts.leave(f"k{i}")
    assert len(accounts._accounts) <= 6
    with pytest.raises(ApiError, match="at once"):
        accounts.enter("busy", 0, 1)


@pytest.mark.ray
@pytest.mark.slow
def test_gateways_meet_in_an_actor_and_outlive_it(ray_cluster: None) -> None:
    import ray

    async def run() -> None:
        one, other = SharedLimits(counter_of("test")), SharedLimits(counter_of("test"))
        async with one.running(), other.running():
            assert [await code_of(g, 0, 2) for g in (one, other, one)] == [
                "ok", "ok", "concurrency_limit"
            ]  # fmt: skip
            ray.kill(ray.get_actor("marc-limits:test", namespace="marc"))
            assert await code_of(one, 0, 2) == "ok"  # alone
            for _ in range(50):
                await asyncio.sleep(SYNC_S / 10)
                if await code_of(other, 0, 3) == "concurrency_limit":
                    break
                await other.leave("k")
            else:
                raise AssertionError("the gateways have not met again")
            await one.leave("k")
            await one.leave("k")
            await asyncio.sleep(0.2)
            assert await code_of(other, 0, 2) == "ok"

    asyncio.run(run())
