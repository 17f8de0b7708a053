"""The parts of a C-GRPO run that need neither Ray nor a model."""

from __future__ import annotations

import asyncio
import json

import numpy as np
import pytest
import torch

from jobs.training.actors import RolloutActor
from jobs.training.asked import Asked, answered, can_be_judged, seed_of, shown, student_request
from jobs.training.cgrpo_config import CGrpoJobConfig, LearnerConfig
from jobs.training.cgrpo_run import check, demand
from jobs.training.lora import add_adapter
from jobs.training.order import Order
from jobs.training.run_log import RunLog, curve, read_lines
from jobs.training.run_report import render_run
from jobs.training.teacher_cache import FLUSH, TeacherCache, key_of
from jobs.training.train_rows import TrainRows
from jobs.training.weights import packed, unpacked
from marc_core.config import PRESETS_DIR, StudentConfig, load_config
from marc_core.errors import ConfigError, TrainingError
from marc_core.evidence import Evidence
from marc_core.models import weights
from marc_core.models.loading import load_model
from marc_core.models.vision_tower import dtype_of
from tests.jobs.training.plain_sets import completion, sample, write_plain_set


def test_every_epoch_asks_every_question_once_in_an_order_of_its_own():
    order = Order(10, seed=3)
    epochs = [[order.row(10 * e + i) for i in range(10)] for e in range(3)]
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert epochs[0] != epochs[1]
    assert [Order(10, seed=3).row(i) for i in range(20)] == epochs[0] + epochs[1]
    assert [Order(10, seed=4).row(i) for i in range(10)] != epochs[0]


def test_rows_are_numbered_through_files_and_groups(tmp_path):
    rows = TrainRows(str(write_plain_set(tmp_path / "set", 11, files=2)), {})
    assert [rows.sample(i).id for i in range(len(rows))] == [f"q{i}" for i in range(11)]
    assert rows.teacher(7) == b"t7"
    assert rows.sample(3).student_evidence().choices == ("red", "blue")


def test_a_set_larger_than_the_room_for_it_is_read_all_the_same(tmp_path):
    rows = TrainRows(str(write_plain_set(tmp_path / "set", 11)), {}, kept_bytes=1)
    assert [rows.sample(i).id for i in (10, 0, 10, 4)] == ["q10", "q0", "q10", "q4"]
    assert len(rows._kept) == 1


def test_rows_lie_beside_what_else_a_set_holds(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    write_plain_set(tmp_path / "abc" / "rows", 3)
    (tmp_path / "abc" / "videos").mkdir()
    pq.write_table(pa.table({"path": ["x"]}), tmp_path / "abc" / "videos" / "0.parquet")
    assert len(TrainRows(str(tmp_path), {})) == len(TrainRows(str(tmp_path / "abc"), {})) == 3
    write_plain_set(tmp_path / "def" / "rows", 3)
    with pytest.raises(TrainingError, match=r"one training set\. Got .* with 2 below it"):
        TrainRows(str(tmp_path), {})


def test_another_set_has_another_fingerprint(tmp_path):
    one = TrainRows(str(write_plain_set(tmp_path / "a", 3)), {})
    same = TrainRows(str(write_plain_set(tmp_path / "b", 3)), {})
    other = TrainRows(str(write_plain_set(tmp_path / "c", 4)), {})
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_a_folder_without_rows_and_one_with_other_rows_are_refused(tmp_path):
    with pytest.raises(TrainingError, match=r"Parquet files with rows. Got .*nowhere"):
        TrainRows(str(tmp_path / "nowhere"), {})
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "odd.parquet")
    with pytest.raises(TrainingError, match=r"odd.parquet' without question, problem_type"):
        TrainRows(str(tmp_path), {})


def test_the_teacher_is_asked_once_by_all_runs_that_share_a_cache(tmp_path):
    first, other = (TeacherCache(str(tmp_path), name, {}) for name in ("t1", "t2"))
    for i in range(FLUSH + 1):
        first.put(f"k{i}", ["red", "blue"])
    other.put("k0", ["green"])
    other.flush()
    assert len(TeacherCache(str(tmp_path), "t1", {})) == FLUSH, "one is not written yet"
    first.flush()
    again = TeacherCache(str(tmp_path), "t1", {})
    assert len(again) == FLUSH + 1
    assert again.get("k3") == ("red", "blue")
    assert TeacherCache(str(tmp_path), "t2", {}).get("k0") == ("green",)


def test_a_key_is_that_of_question_and_set():
    assert key_of(sample(1), "set") == key_of(sample(1), "set")
    assert len({key_of(sample(1), "set"), key_of(sample(2), "set"), key_of(sample(1), "b")}) == 3


def test_a_question_is_drawn_alike_in_a_resumed_run_and_otherwise_in_the_next_step():
    config = CGrpoJobConfig()
    asked = Asked(position=7, row=2, sample=sample(2))
    _, data, sampling = student_request(asked, config, step=3)
    assert student_request(asked, config, step=3)[2] == sampling
    assert student_request(asked, config, step=4)[2].seed != sampling.seed
    assert sampling.n == config.rollout.answers
    assert Evidence.from_bytes(data).choices == ("red", "blue")
    assert 0 <= seed_of("x") < 2**32


def test_a_group_holds_what_its_answers_earn():
    config = load_config(CGrpoJobConfig, overrides=["reward.alpha=1", "reward.tau=0.25"])
    asked = Asked(position=0, row=0, sample=sample(0), texts=("red", "red", "blue", "red"))
    found = answered(asked, [completion("red"), completion("blue", 1)], config)
    assert found.group.verdict.scores == (1.0, 0.0)
    assert found.group.verdict.a_full == 0.75
    line = json.loads(json.dumps(shown(found, config)))
    assert line["rewards"] == pytest.approx([1 + 0.5 / 0.75 - 0.25, 0.0], abs=1e-4)
    assert line["student"] == ["red", "blue"]


def test_an_unlabelled_question_needs_a_teacher_that_agrees_with_itself():
    config = load_config(CGrpoJobConfig, overrides=["reward.least_agreement=0.6"])

    def judged(*texts):
        asked = Asked(position=0, row=0, sample=sample(0, labelled=False), texts=texts)
        return can_be_judged(asked, config)

    assert judged("red", "red", "blue")
    assert not judged("red", "blue")
    assert not judged()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_arrive_as_they_left(dtype):
    model = torch.nn.ModuleDict({"visual": torch.nn.Linear(2, 2), "text": torch.nn.Linear(3, 5)})
    sent = packed(model, dtype)
    for _, array in sent.values():
        array.flags.writeable = False  # as the object store hands them out
    got = unpacked(sent)
    assert set(got) == {"text.weight", "text.bias"}
    assert torch.equal(got["text.weight"], model["text"].weight.to(dtype))
    assert all(isinstance(array, np.ndarray) for _, array in sent.values())


class PlainEngine:
    """Has no model; remembers the versions that it was given."""

    def __init__(self) -> None:
        self.versions: list[int] = []

    async def load_weights(self, tensors, version):
        self.versions.append(version)

    async def generate(self, requests):
        for request in requests:
            yield request


def test_an_actor_goes_back_with_a_run_that_does():
    """Weights of a later step that a checkpoint has undone are not kept for being newer."""

    async def run():
        actor = RolloutActor(StudentConfig(), LearnerConfig())
        actor.engine = PlainEngine()
        for version in ((1, 0), (1, 2), (1, 1), (1, 2), (2, 1), (2, 2)):
            weights = asyncio.get_running_loop().create_future()
            weights.set_result({})
            await actor.draw([], version, [weights])
        return actor.engine.versions

    assert asyncio.run(run()) == [0, 2, 1, 2]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("num_workers=0", "num_workers must be at least 1: C-GRPO trains on Ray Train"),
        ("num_workers=64", "rollout.questions must be at least num_workers"),
        ("rollout.budgets=[9]", r"rollout.budgets must stay \[0\]"),
        ("rollout_pool.actors=0", "rollout_pool.actors must be at least 1"),
        ("learner.sharded=true", "learner.lora_rank need optimizer.kind=adamw"),
        ("learner.lora_rank=8", "learner.lora_rank need optimizer.kind=adamw"),
    ],
)
def test_what_cannot_be_is_refused(override, message):
    with pytest.raises(ConfigError, match=message):
        load_config(CGrpoJobConfig, overrides=[override])


def test_a_run_asks_for_every_actor_and_worker():
    config = load_config(
        CGrpoJobConfig,
        overrides=["use_gpu=true", "num_workers=2", "teacher_pool={actors: 3, cpus: 1, gpus: 0.5}",
                   "rollout_pool={actors: 1, cpus: 0.5}"],
    )  # fmt: skip
    assert demand(config) == {
        "teacher": [{"CPU": 1.0, "GPU": 0.5}] * 3,
        "rollout": [{"CPU": 0.5}],
        "learner": [{"CPU": 1.0, "GPU": 1.0}] * 2,
    }
    assert (config.rollout_model.device, config.teacher_reader.device) == ("cpu", "cuda")


def test_pools_compute_large_checkpoints_in_bfloat16_on_a_cpu(monkeypatch):
    """A 3B student in float32 takes 15 GB an actor."""
    config = load_config(CGrpoJobConfig, preset="tiny", overrides=["student.device=cpu"])
    directory = PRESETS_DIR / "tiny" / "student"
    assert dtype_of(config.rollout_model, directory) == torch.float32
    monkeypatch.setattr(weights, "LARGE_PARAMETERS", 1000)
    assert dtype_of(config.rollout_model, directory) == torch.bfloat16
    assert dtype_of(config.teacher_reader, directory) == torch.bfloat16
    own = load_config(CGrpoJobConfig, preset="tiny", overrides=["student.dtype=float32"])
    assert dtype_of(own.rollout_model, directory) == torch.float32


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_adapters_of_a_bfloat16_student_take_the_smallest_steps():
    """Their weights are about 0.05: bfloat16 knows no number between 0.05 and 0.0502."""
    model, _, _ = load_model(StudentConfig(model="preset:tiny", dtype="bfloat16", device="cpu"))
    add_adapter(model, LearnerConfig(lora_rank=4))
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    before = [p.detach().clone() for p in trained]
    optimizer = torch.optim.AdamW(trained, lr=1e-6, weight_decay=0.0)
    for _ in range(2):  # B is 0 at first, and A has no gradient
        logits = model(input_ids=torch.tensor([[5, 6, 7]])).logits
        logits.float().logsumexp(-1).sum().backward()
        optimizer.step()
    assert logits.dtype == torch.bfloat16
    moved = [not torch.equal(p, old) for p, old in zip(trained, before, strict=True)]
    assert sum(moved) > 0.9 * len(moved)


def test_a_set_of_another_tower_and_one_without_teacher_are_refused(tmp_path):
    place = write_plain_set(tmp_path / "set", 2, teacher=False)
    config = load_config(CGrpoJobConfig, preset="tiny", overrides=[f"train_set='{place}'"])
    with pytest.raises(ConfigError, match="vision tower that the training set was made with"):
        check(config)
    with pytest.raises(ConfigError, match="train_set must name a training set"):
        check(CGrpoJobConfig())


def test_the_log_holds_means_and_the_later_of_two_points_of_a_step(tmp_path):
    config = load_config(
        CGrpoJobConfig, overrides=[f"output='{tmp_path}'", "log_every=2", "steps=5"]
    )
    log = RunLog(config)
    log.begin(0)
    for step in range(1, 6):
        log.step(step, {"reward": float(step)}, [{"id": "q"}])
    log.begin(4)
    log.step(5, {"reward": 7.0}, [])
    log.say("it happened")
    log.close()
    points = curve(tmp_path)
    assert [(p["step"], p["reward"]) for p in points] == [(2, 1.5), (4, 3.5), (5, 7.0)]
    assert [s["step"] for s in read_lines(tmp_path / "samples.jsonl")] == [2, 4, 5]
    assert log.unsaid() == ["it happened"]
    assert log.unsaid() == []
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_the_report_shows_curves_answers_and_what_happened(tmp_path):
    config = load_config(CGrpoJobConfig, overrides=[f"output='{tmp_path}'", "steps=2"])
    log = RunLog(config)
    log.begin(0)
    asked = Asked(position=0, row=0, sample=sample(0), texts=("red",))
    found = answered(asked, [completion("red"), completion("blue", 1)], config)
    for step in (1, 2):
        log.step(step, {"reward": 0.5, "score": 0.5, "kl": float("nan")}, [shown(found, config)])
    log.say("An <b>actor</b> died")
    log.close()
    page = render_run(config)
    assert page.count("<svg") == 2, "a curve of NaN alone is not drawn"
    assert "what colour is 0?" in page
    assert "An &lt;b&gt;actor&lt;/b&gt; died" in page
    pair = {"mean_a": 0.7, "mean_b": 0.8, "difference": 0.1, "low": 0.05, "high": 0.15, "num": 100}
    compared = render_run(config, {"variants": [{"a": "marc", "b": "marc", "overall": pair}]})
    assert "+10.0" in compared
