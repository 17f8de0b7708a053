"""The controller's loops over pools that are plain functions: order, bounds, refills, restarts."""

from __future__ import annotations

import asyncio

import pytest

from jobs.training.cgrpo_config import CGrpoJobConfig
from jobs.training.controller import Controller, Stopped
from jobs.training.pools import Pool
from marc_core.config import load_config
from marc_core.errors import ClusterError
from tests.jobs.training.plain_sets import completion, write_plain_set


class FakePool:
    """Answers at once, and remembers what it was asked. knows: ids that are answered right."""

    def __init__(self, name, log) -> None:
        self.name, self.log, self.restarts, self.knows = name, log, 0, None
        self.actors = ()

    async def start(self, timeout_s) -> None:
        return None

    def idle_share(self) -> float:
        return 0.0

    async def call(self, method, given, *rest):
        await asyncio.sleep(0)
        self.log.append((method, [id for id, _, _ in given], *rest[:1]))
        if method == "answer":
            return [("red", "red")] * len(given)
        _, version = rest[0]
        return [self._answers(id, sampling.n, version) for id, _, sampling in given]

    def _answers(self, id, n, version):
        position = int(id.split("/")[1])
        mixed = self.knows is None or position in self.knows
        texts = ["red" if mixed and i % 2 else "blue" for i in range(n)]
        return [completion(t, i, version=version) for i, t in enumerate(texts)]


class FakeController(Controller):
    """A controller without Ray."""

    def _pool(self, name, kind, args, own, room, first):
        self.calls = getattr(self, "calls", [])
        return FakePool(name, self.calls)

    def _end(self, actor):
        raise AssertionError("there is none")


def controller(tmp_path, *overrides: str, count: int = 12, **rows) -> FakeController:
    place = write_plain_set(tmp_path / "set", count, **rows)
    config = load_config(
        CGrpoJobConfig,
        overrides=[
            f"output='{tmp_path / 'run'}'", f"train_set='{place}'", "rollout.questions=4",
            "rollout.answers=2", "teacher_pool.questions_a_call=2", "trackers=[]",
            "rollout_pool.questions_a_call=3", "teacher_ahead=2", "steps=4", *overrides,
        ],
    )  # fmt: skip
    return FakeController(config, None, "teacher")


async def settled(rounds: int = 200) -> None:
    for _ in range(rounds):
        await asyncio.sleep(0)


METRICS = {"reward": 0.5, "wait_s": 0.0}


def test_workers_get_shares_of_one_batch_and_positions_go_on(tmp_path):
    async def run():
        found = controller(tmp_path)
        await found.begin(0, 0, ["w0"])
        shares = [await found.batch(0, rank, 2) for rank in range(2)]
        ids = [[g.id for g in share.groups] for share in shares]
        expected = [found.rows.sample(found.order.row(i)).id for i in range(4)]
        assert ids == [expected[0::2], expected[1::2]]
        assert shares[0].position == 4
        assert shares[0].groups[0].verdict.a_full == 1.0
        await found.publish(1, ["w1"], METRICS)
        assert (await found.batch(1, 0, 1)).position == 8
        await found.close()

    asyncio.run(run())


@pytest.mark.parametrize("behind", [0, 1])
def test_rollouts_run_at_most_so_many_versions_ahead(tmp_path, behind):
    async def run():
        found = controller(tmp_path, f"rollout.versions_behind={behind}")
        await found.begin(0, 0, ["w0"])
        await settled()
        assert sorted(found._batches) == list(range(behind + 1))
        await found.batch(0, 0, 1)
        await found.publish(1, ["w1"], METRICS)
        await settled()
        assert max(found._batches) == behind + 1
        assert found._batches[1].answered[0].group.version == 1 - behind
        await found.close()

    asyncio.run(run())


def test_the_teacher_is_asked_a_bounded_number_of_calls_ahead_and_once(tmp_path):
    async def run():
        found = controller(tmp_path)
        await found.begin(0, 0, ["w0"])
        await settled()
        asked = [ids for method, ids, *_ in found.calls if method == "answer"]
        # Two calls of two questions are in the first batch, two wait, one waits to be put.
        assert len(asked) == 2 + 2 + 1
        for step in range(3):
            await found.batch(step, 0, 1)
            await found.publish(step + 1, ["w"], METRICS)
        asked = [i for method, ids, *_ in found.calls if method == "answer" for i in ids]
        assert len(asked) == 12, "the second epoch is known"
        assert len(found.cache) == 12
        await found.close()

    asyncio.run(run())


def test_a_run_that_begins_again_makes_the_same_batches(tmp_path):
    async def run():
        found = controller(tmp_path)
        await found.begin(0, 0, ["w0"])
        first = await found.batch(0, 0, 1)
        await found.publish(1, ["w1"], METRICS)
        second = await found.batch(1, 0, 1)
        await found.begin(1, first.position, ["w1"])
        again = await found.batch(1, 0, 1)
        assert [g.id for g in again.groups] == [g.id for g in second.groups]
        assert any("checkpoint of step 1" in text for text in found.log.unsaid())
        await found.close()

    asyncio.run(run())


def test_groups_that_teach_nothing_are_replaced_as_long_as_it_is_worth_it(tmp_path):
    async def run():
        found = controller(tmp_path, "rollout.dynamic_sampling=true", "rollout.refills=2")
        found.rollout.knows = {0, 5, 6, 7, 8, 9}
        await found.begin(0, 0, ["w0"])
        share = await found.batch(0, 0, 1)
        scores = [set(g.verdict.scores) for g in share.groups]
        assert scores == [{0.0, 1.0}] * 4, "positions 0, 5, 6, 7"
        assert share.position == 8
        assert found._batches[0].facts["refills"] == 2
        found.rollout.knows = {9}
        await found.publish(1, ["w1"], METRICS)
        share = await found.batch(1, 0, 1)
        assert len(share.groups) == 4, "after two refills what is there must do"
        assert sum(len(set(g.verdict.scores)) == 2 for g in share.groups) == 1
        await found.close()

    asyncio.run(run())


def test_a_set_in_which_nothing_can_be_judged_stops_the_run(tmp_path):
    async def run():
        found = controller(tmp_path, "reward.unlabelled=skip", labelled=False)
        await found.begin(0, 0, ["w0"])
        stopped = await found.batch(0, 0, 1)
        assert isinstance(stopped, Stopped)
        assert "No question of the training set can be judged" in stopped.reason
        assert (await found.state())["stopped"] == stopped.reason
        await found.close()

    asyncio.run(run())


def test_a_row_without_what_the_teacher_reads_is_named(tmp_path):
    async def run():
        found = controller(tmp_path, teacher=False)
        await found.begin(0, 0, ["w0"])
        stopped = await found.batch(0, 0, 1)
        assert "must hold what the teacher reads" in stopped.reason
        await found.close()

    asyncio.run(run())


def test_what_ends_a_loop_unexpectedly_reaches_every_worker(tmp_path):
    async def run():
        found = controller(tmp_path)

        async def broken(*_):
            raise ZeroDivisionError("a bug")

        found.rollout.call = broken
        await found.begin(0, 0, ["w0"])
        with pytest.raises(ZeroDivisionError):
            await found.batch(0, 0, 1)
        await found.close()

    asyncio.run(run())


def test_a_controller_that_was_started_again_knows_no_run(tmp_path):
    async def run():
        with pytest.raises(RuntimeError, match="knows no run"):
            await controller(tmp_path).batch(0, 0, 1)

    asyncio.run(run())


class FakeActor:
    """Calls end when told; `pid` may change in between."""

    def __init__(self) -> None:
        self.pid, self.under_way, self.most = 1, 0, 0
        self.go = asyncio.Event()
        self.work = self

    def remote(self, value):
        return self._work(value)

    async def _work(self, value):
        from jobs.training.actors import Reply

        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.go.wait()
        self.under_way -= 1
        return Reply(self.pid, value)


def test_an_actor_that_cannot_be_reached_is_called_again(monkeypatch):
    from ray.exceptions import ActorUnavailableError

    monkeypatch.setattr("jobs.training.pools.AGAIN_S", 0.0)

    class Lost(FakeActor):
        left = 3

        async def _work(self, value):
            if self.left:
                self.left -= 1
                raise ActorUnavailableError("its node is lost", None)
            return await super()._work(value)

    async def run():
        said: list[str] = []
        actor = Lost()
        actor.go.set()
        pool = Pool("rollout", [actor], calls=1, timeout_s=5, say=said.append)
        assert await pool.call("work", 1) == 1
        assert said == ["Actor 0 of the rollout pool cannot be reached; waiting."]
        actor.left = 10**9
        pool.timeout_s = 0.2
        with pytest.raises(ClusterError, match="rollout pool has not answered"):
            await pool.call("work", 2)

    asyncio.run(run())


def test_a_pool_bounds_calls_says_restarts_and_gives_up_in_time():
    async def run():
        said: list[str] = []
        actor = FakeActor()
        pool = Pool("rollout", [actor], calls=2, timeout_s=0.3, say=said.append)
        waiting = [asyncio.create_task(pool.call("work", i)) for i in range(5)]
        await settled()
        assert (actor.under_way, pool.waiting) == (2, 3)
        actor.go.set()
        assert await asyncio.gather(*waiting) == list(range(5))
        assert actor.most == 2
        assert said == []
        actor.pid = 2
        await pool.call("work", 5)
        assert "process 1 -> 2" in said[0]
        assert pool.restarts == 1
        assert 0 <= pool.idle_share() <= 1
        actor.go.clear()
        with pytest.raises(ClusterError, match=r"rollout pool has not answered in time.* 0\.3 s"):
            await pool.call("work", 6)
        actor.go.set()
        assert await pool.call("work", 7) == 7, "its place is free again"

    asyncio.run(run())
