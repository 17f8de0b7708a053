"""Training: an interrupted run ends like an uninterrupted one, and nothing held out leaks."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from marc_core.errors import ConfigError
from marc_core.tiny import run
from marc_core.tiny.attributes import CELLS, attribute_targets, cell_of
from marc_core.tiny.config import EncoderTrainConfig, SftConfig, StageConfig
from marc_core.tiny.contrastive import fits, named_in, seen_in
from marc_core.tiny.footage import TRAIN_SEED, make_footage, one_group_each, train_seed
from marc_core.tiny.measure import accuracy, teacher_answers
from marc_core.tiny.models import EncoderSize, StudentSize
from marc_core.tiny.tokenizers import build_student_tokenizer
from marc_core.training.loop import learning_rate
from marc_core.training.session import LocalSession, read_checkpoint
from marc_core.world import WorldConfig, object_states, sample_video, vocabulary

SMALL = StudentSize(
    vision_width=32, vision_layers=1, vision_heads=2, text_width=32, text_layers=1, text_mlp=32
)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _small_models(monkeypatch):
    monkeypatch.setattr(run, "StudentSize", lambda: SMALL)
    small = EncoderSize(
        vision_widths=(8, 16),
        vision_depths=(1, 1),
        text_width=16,
        text_layers=1,
        text_mlp=16,
        dim=16,
    )
    monkeypatch.setattr(run, "EncoderSize", lambda: small)


def _stages() -> list[StageConfig]:
    return [
        StageConfig(name="vision", kind="vision", steps=2, videos_per_step=1),
        StageConfig(
            name="words", steps=2, videos_per_step=1, questions=2, train_vision=True,
            compressed_share=0.5, scene_weight=0.1,
        ),
        StageConfig(name="more", steps=1, videos_per_step=1, questions=2, scene_weight=0.1),
    ]  # fmt: skip


def _config(output, **values) -> SftConfig:
    return SftConfig(output=str(output), stages=_stages(), save_every=1, log_every=1, **values)


class _Interrupted(Exception):
    pass


def test_a_checkpoint_keeps_what_else_a_run_must_know(tmp_path):
    session = LocalSession(tmp_path, CPU)
    session.save(0, 3, {"w": torch.ones(2)}, {}, {"position": 7})
    restored = session.restore()
    assert (restored.step, restored.extra) == (3, {"position": 7})


class _DiesAfter(LocalSession):
    """Raises once a given checkpoint is safely written."""

    last = (0, 0)

    def save(self, stage, step, weights, optimizer):
        super().save(stage, step, weights, optimizer)
        if (stage, step) == self.last:
            raise _Interrupted


@pytest.mark.parametrize("last", [(0, 1), (0, 2), (1, 1), (1, 2)])
def test_an_interrupted_run_ends_like_an_uninterrupted_one(tmp_path, last):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run.train_student(_config(whole), LocalSession(whole, CPU))
    dies = _DiesAfter(parts, CPU)
    dies.last = last
    with pytest.raises(_Interrupted):
        run.train_student(_config(parts), dies)
    run.train_student(_config(parts), LocalSession(parts, CPU))
    first, second = (read_checkpoint(p / "checkpoint") for p in (whole, parts))
    assert (first.stage, first.step) == (second.stage, second.step) == (2, 1)
    for name, weight in first.weights.items():
        assert torch.equal(weight, second.weights[name]), name
    points = [json.loads(line) for line in (parts / "curves.jsonl").read_text().splitlines()]
    assert [(p["stage"], p["step"]) for p in points][-1] == ("more", 1)


def test_the_encoder_trains_and_loads_like_any_other(tmp_path):
    from marc_core.config import EncoderConfig
    from marc_core.embed import load_encoder

    config = EncoderTrainConfig(
        output=str(tmp_path), steps=2, videos_per_step=2, frames_per_event=1
    )
    run.train_encoder(config, LocalSession(tmp_path, CPU))
    encoder = load_encoder(EncoderConfig(model=str(tmp_path / "encoder")))
    assert encoder.encode_texts(["the red circle"]).shape == (1, 16)


def test_unknown_stages_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="names of stages"):
        run.train_student(_config(tmp_path, only=["nothing"]), LocalSession(tmp_path, CPU))


def test_groups_never_straddle_events_and_cover_every_second():
    footage = make_footage(7, WorldConfig(), size=84)
    for event, (first, second) in zip(footage.event_T, footage.times_T2, strict=True):
        span = footage.video.events[event]
        assert span.start_s <= first <= second < span.end_s
        assert second - first in (0.0, 1.0)
    seconds = np.arange(0.0, footage.video.duration_s - 1e-6, 1.0)
    assert set(footage.times_T2.ravel()) == set(seconds)
    assert len(footage.frames_FHWC) == 2 * len(footage.event_T)


def test_targets_say_what_is_in_a_cell():
    rng = np.random.default_rng(0)
    footage = one_group_each(3, WorldConfig(min_objects=2), size=84, rng=rng)
    looks, places, pairs, values = attribute_targets(footage)
    assert looks.shape == (len(places), CELLS * CELLS, 4)
    for group, times in enumerate(footage.times_T2):
        for thing in object_states(footage.video, [float(times[0])])[0]:
            if thing.visible:
                assert pairs[group, cell_of(thing)].sum() >= 1
                assert values[group, cell_of(thing), :3].isfinite().all()


def test_training_seeds_are_never_held_out_ones():
    rng = np.random.default_rng(0)
    assert min(train_seed(rng) for _ in range(1000)) >= TRAIN_SEED


def test_a_text_fits_its_own_event_only():
    video = sample_video(5, WorldConfig())
    event, other = video.events[:2]
    thing = event.objects[0]
    text = f"What does the {thing.colour} {thing.shape} in the {event.background} scene do?"
    assert fits(named_in(text), seen_in(event))
    assert not fits(named_in(text), seen_in(other))
    assert fits(named_in("What happens?"), seen_in(other))


def test_every_word_of_the_world_is_one_token():
    tokenizer = build_student_tokenizer(run.training_words())
    for word in vocabulary():
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
    spelled = tokenizer("zebra", add_special_tokens=False).input_ids
    assert len(spelled) == 5
    assert tokenizer.decode(spelled) == "zebra"


def test_the_rate_warms_up_and_falls_to_a_tenth():
    rates = [learning_rate(s, 100, 1.0) for s in range(100)]
    assert rates[0] < rates[4] == max(rates) == 1.0
    assert 0.1 <= rates[-1] < 0.11


def test_forced_answers_equal_greedy_ones(tmp_path):
    """Exact match in one packed pass is what generate() would score."""
    from marc_core.compress import CompressedVideo
    from marc_core.config import StudentConfig
    from marc_core.models.answering import answer_all
    from marc_core.models.engine import GenerationRequest
    from marc_core.models.prompt import direct_prompt
    from marc_core.models.transformers_engine import TransformersEngine
    from marc_core.question import Question, Sampling
    from marc_core.tiny.footage import patches_of
    from marc_core.tiny.models import save_student
    from marc_core.tiny.vision_batch import encode_groups
    from marc_core.world import make_questions

    model, tokenizer = run.start_student(SftConfig(seed=3))
    save_student(model, tokenizer, tmp_path)
    engine = TransformersEngine(StudentConfig(model=str(tmp_path), max_new_tokens=8))
    model = engine.model
    footage = make_footage(4, WorldConfig(), size=112)
    with torch.no_grad():
        patches = patches_of(footage, engine.files.pixels)
        features = encode_groups(model.model.visual, patches, (6, 6))
    video = CompressedVideo(
        features, (3, 3), torch.from_numpy(footage.group_times_T), len(features)
    )
    questions = make_questions(footage.video, seed=4, per_type=1)
    requests = []
    for i, question in enumerate(questions):
        prompt = direct_prompt(Question(text=question.text, options=question.options), "choice")
        evidence = engine.files.evidence(prompt.text, video, choices=prompt.choices)
        requests.append(GenerationRequest(id=str(i), evidence=evidence, sampling=Sampling()))
    with engine:
        given = [done.text for done in answer_all(engine, requests)]
    assert all(g in q.options for g, q in zip(given, questions, strict=True) if q.options)
    tally = teacher_answers(model, tokenizer, [4])
    right = [int(g == q.answer_text) for g, q in zip(given, questions, strict=True)]
    assert [x for answers in tally.values() for x in answers] == right
    assert accuracy({"a": [1, 0]}) == {"overall": 0.5, "a": 0.5}
