"""What visual tokens are taught about the video so far: targets, loss, and where it is read."""

from __future__ import annotations

import dataclasses
from dataclasses import fields

import numpy as np
import pytest
import torch

from marc_core.tiny.config import StageConfig
from marc_core.tiny.footage import make_footage
from marc_core.tiny.run import _fresh_student
from marc_core.tiny.scenes import (
    HEADS,
    NUM_SCENES,
    POINTERS,
    SECONDS_SCALE,
    Reader,
    SceneTargets,
    pointer_loss,
    pointer_targets,
    scene_loss,
    scene_targets,
)
from marc_core.tiny.tasks import LanguageTask
from marc_core.world import WorldConfig, make_questions
from marc_core.world.words import ACTIONS, BACKGROUNDS, COLOURS, SHAPES

TOKENS = 2


@pytest.fixture(scope="module")
def footage():
    return make_footage(501, WorldConfig(min_scenes=4, max_scenes=4), size=84)


def _names(looks_K: torch.Tensor) -> set[str]:
    pairs = [f"{c} {s}" for c in COLOURS for s in SHAPES]
    names = [*COLOURS, *SHAPES, *pairs]
    return {n for n, there in zip(names, looks_K, strict=True) if there}


def _all_names(event) -> set[str]:
    return {n for o in event.objects for n in (o.colour, o.shape, f"{o.colour} {o.shape}")}


def test_targets_tell_the_scene_before_and_this_one(footage):
    events, targets = footage.video.events, scene_targets(footage)
    for g, e in enumerate(footage.event_T):
        place = [*BACKGROUNDS, None][targets.place_before_T[g]]
        action = [*ACTIONS, None][targets.action_before_T[g]]
        if e == 0:
            assert (place, action, _names(targets.looks_before_TK[g])) == (None, None, set())
        else:
            assert place == events[e - 1].background
            assert action == events[e - 1].objects[0].action
            assert _names(targets.looks_before_TK[g]) == _all_names(events[e - 1])
        assert _names(targets.looks_here_TK[g]) <= _all_names(events[e])
        assert ACTIONS[targets.action_T[g]] == events[e].objects[0].action
        assert (targets.scene_T[g], targets.count_T[g]) == (e, len(events[e].objects))
        seconds, since = targets.seconds_T2[g] * torch.tensor(SECONDS_SCALE)
        assert seconds == pytest.approx(footage.times_T2[g].mean(), abs=0.51)
        assert float(seconds - since) == pytest.approx(events[e].start_s, abs=1e-4)
    assert [footage.event_T[g] for g in targets.last_T.nonzero()[:, 0]] == [0, 1, 2, 3]


def test_what_has_not_appeared_yet_is_not_there():
    for seed in range(500, 540):
        footage = make_footage(seed, WorldConfig(min_scenes=1, actions=("appears",)), size=16)
        targets = scene_targets(footage)
        main = footage.video.events[0].objects[0]
        first = _names(targets.looks_here_TK[0])
        shown_s = next(s for s, on in main.shown if on)
        others = {f"{o.colour} {o.shape}" for o in footage.video.events[0].objects[1:]}
        name = f"{main.colour} {main.shape}"
        if name not in others and shown_s > footage.times_T2[0, 1]:
            assert name not in first
            return
    pytest.fail("no video in which something appears after the first group")


def _perfect(targets: SceneTargets) -> dict[str, torch.Tensor]:
    def one_hot(wanted_T: torch.Tensor, name: str) -> torch.Tensor:
        return 40.0 * torch.nn.functional.one_hot(wanted_T, HEADS[name])

    read = {n: one_hot(getattr(targets, f"{n}_T"), n) for n in
            ("place_before", "action_before", "scene", "action", "count")}  # fmt: skip
    for name in ("looks_before", "looks_here"):
        read[name] = 80 * getattr(targets, f"{name}_TK") - 40
    read["seconds"] = targets.seconds_T2
    return {n: v.repeat_interleave(TOKENS, dim=0) for n, v in read.items()}


def test_loss_of_right_readings_is_zero_and_of_one_wrong_reading_is_not(footage):
    targets = scene_targets(footage)
    loss, metrics = scene_loss(_perfect(targets), [targets], TOKENS)
    assert float(loss) == pytest.approx(0, abs=1e-4)
    assert metrics.pop("seconds_error") == 0
    assert set(metrics.values()) == {1.0}
    for name in HEADS:
        read = _perfect(targets)
        read[name][-1] = read[name][-1].flip(-1) + 1
        assert float(scene_loss(read, [targets], TOKENS)[0]) > 0.01, name


def test_targets_of_several_videos_are_joined_in_order(footage):
    targets = scene_targets(footage)
    read = _perfect(targets)
    twice = {n: torch.cat([v, v]) for n, v in read.items()}
    assert float(scene_loss(twice, [targets, targets], TOKENS)[0]) == pytest.approx(0, abs=1e-4)


def _task(**values) -> tuple[LanguageTask, tuple]:
    torch.manual_seed(0)
    stage = StageConfig(name="s", videos_per_step=2, questions=3, scene_weight=0.5, **values)
    task = LanguageTask(*_fresh_student(), stage)
    return task, task.batch(0, 0, 0)


def test_states_are_read_below_the_last_layers_and_add_to_the_loss():
    task, batch = _task()
    layers = task.student.model.language_model.layers
    first, last = (layers[i].mlp.gate_proj.weight for i in (0, -1))
    loss, metrics = task(*batch)
    assert float(loss.detach()) > metrics["answers"] + 1
    loss.backward()
    for head in task.heads.values():
        assert float(head.linear.weight.grad.abs().sum()) > 0
    with_reading = [first.grad, last.grad]
    task.stage = dataclasses.replace(task.stage, scene_weight=0.0)
    alone = torch.autograd.grad(task(*task.batch(0, 0, 0))[0], [first, last])
    assert not torch.allclose(with_reading[0], alone[0], rtol=1e-2)
    torch.testing.assert_close(with_reading[1], alone[1], rtol=1e-4, atol=1e-7)


def test_compressed_videos_are_not_read_but_every_head_has_a_gradient():
    task, batch = _task(compressed_share=1.0, min_scenes=3)
    loss, metrics = task(*batch)
    assert float(loss.detach()) == pytest.approx(metrics["answers"])
    loss.backward()
    assert all(p.grad is not None and not p.grad.any() for p in task.heads.parameters())


def test_heads_are_cut_as_named():
    read = Reader(8, HEADS)(torch.from_numpy(np.ones((3, 8), np.float32)))
    assert {n: v.shape for n, v in read.items()} == {n: (3, k) for n, k in HEADS.items()}
    assert {f.name.rsplit("_", 1)[0] for f in fields(SceneTargets)} == {*HEADS, "last"}


def test_pointers_tell_named_scenes_from_those_that_hold_the_answer(footage):
    events = footage.video.events
    places = [*BACKGROUNDS]
    seen = set()
    for question in make_questions(footage.video, seed=1, per_type=3):
        parts = torch.split(pointer_targets(footage, question), list(POINTERS.values()))
        named, meant, place = ({int(i) for i in p.nonzero()[:, 0]} for p in parts)
        assert named == set(question.named)
        assert {places[i] for i in place} == {events[e].background for e in meant}
        if question.type == "after":
            assert meant == {e + 1 for e in named}
        elif question.type == "before":
            assert meant == {e - 1 for e in named}
        else:
            assert meant == set(question.evidence)
        seen.add(question.type)
    assert {"after", "before", "order", "when", "which_event"} <= seen


def test_pointer_loss_is_zero_when_right_and_counts_the_strongest(footage):
    question = make_questions(footage.video, seed=1, types=("after",))[0]
    target = pointer_targets(footage, question)[None]
    sizes = list(POINTERS.values())
    right = dict(zip(POINTERS, torch.split(80 * target - 40, sizes, dim=-1), strict=True))
    loss, metrics = pointer_loss(right, target)
    assert float(loss) == pytest.approx(0, abs=1e-4)
    assert set(metrics.values()) == {1.0}
    right["meant"] = right["meant"].roll(1, dims=-1)
    loss, metrics = pointer_loss(right, target)
    assert float(loss) == pytest.approx(4 * (40 + 3 * 40) / NUM_SCENES, rel=1e-3)
    assert metrics == {"named": 1.0, "meant": 0.0, "place_meant": 1.0}
