"""Captions by the tiny preset's own models, on videos whose scenes are known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from marc_core.config import MethodConfig, load_config
from marc_core.errors import ModelLoadError
from marc_core.text.captioning import CaptionStage, caption_model, make_stage
from marc_core.text.describers import joined
from marc_core.text.stage import Span
from marc_core.world import WorldVideo, sample_video, write_mp4
from tests.marc_core.engines import EchoEngine
from tests.marc_core.memories import FIVE_SCENES


def tiny(**text: Any) -> MethodConfig:
    config = load_config(MethodConfig, preset="tiny")
    return dataclasses.replace(config, text=dataclasses.replace(config.text, **text))


def spans_of(video: WorldVideo) -> list[Span]:
    return [
        Span(
            event_id=str(event.index),
            start_s=event.start_s,
            end_s=event.end_s,
            frame_times_s=tuple(np.arange(np.ceil(event.start_s), event.end_s).tolist()),
        )
        for event in video.events
    ]


def test_every_event_is_described_by_where_it_is(tmp_path: Path):
    video = sample_video(9001, FIVE_SCENES)
    path = tmp_path / "world.mp4"
    write_mp4(video, path)
    stage = make_stage(tiny())
    assert stage.kind == "caption"
    spans = spans_of(video)
    result = stage.texts(str(path), spans)
    stage.close()
    assert [(s.start_s, s.end_s) for s in result.lines] == [(s.start_s, s.end_s) for s in spans]
    places = [event.background for event in video.events]
    right = [place in line.text for place, line in zip(places, result.lines, strict=True)]
    assert sum(right) >= 4, (places, result.lines)
    assert all(0 < line.confidence <= 1 for line in result.lines)


def test_the_fingerprint_tells_models_and_prompts_apart():
    configs = [tiny(), tiny(), tiny(caption_model="preset:tiny"), tiny(caption_prompts=("Why?",))]
    first, again, *others = (make_stage(config).fingerprint for config in configs)
    assert first == again
    assert len({first, *others}) == 3


def test_frames_are_read_by_the_teacher_unless_a_model_is_named(tmp_path: Path):
    assert caption_model(tiny()).model == "preset:tiny/teacher"
    assert caption_model(tiny(caption_model="preset:tiny")).model == "preset:tiny"
    with pytest.raises(ModelLoadError):
        CaptionStage(tiny(caption_model=str(tmp_path / "none")))


def test_answers_to_several_prompts_are_one_text():
    engine = EchoEngine()
    answers = [
        dataclasses.replace(engine._completion(_request(), 0, text), log_probs=(probability,))
        for text, probability in (("a forest ", -0.2), ("a red\nring", -0.4), ("a forest", -0.6))
    ]
    told = joined(answers)
    assert told.text == "a forest; a red ring"
    assert told.confidence == pytest.approx(np.exp(-0.4))


def _request() -> Any:
    import torch

    from marc_core.evidence import Evidence
    from marc_core.models.engine import GenerationRequest
    from marc_core.question import Sampling

    nothing = Evidence(
        before_ids=(1,), after_ids=(), runs=(), tokens_ND=torch.zeros(0, 4),
        positions_N3=torch.zeros(0, 3, dtype=torch.long),
    )  # fmt: skip
    return GenerationRequest(id="a", evidence=nothing, sampling=Sampling())
