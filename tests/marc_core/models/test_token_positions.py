"""Tokens of a cut in each family's prompt: every token at its own time and place."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from transformers import AutoConfig

from marc_core.archive import SearchHit, VideoLength
from marc_core.compress import CutTokens
from marc_core.models.adapters import make_adapter
from marc_core.models.prompt import VIDEO_MARK, event_facts


def tokens(seconds: list[float], places: list[list[float]], events: list[int]) -> CutTokens:
    return CutTokens(
        tokens_ND=torch.zeros(len(seconds), 8),
        seconds_N=np.array(seconds),
        places_N2=np.array(places),
        events_N=np.array(events),
        num_source_tokens=100,
    )


CUT = tokens([0.5, 2.5, 14.4, 14.42], [[0, 0], [1.5, 0.4], [0, 2], [1, 2]], [0, 0, 1, 1])


@pytest.fixture
def make_config(checkpoint):
    return lambda family: AutoConfig.from_pretrained(checkpoint(family))


@pytest.mark.parametrize(
    ("family", "ticks"),
    [("qwen2_vl", [0, 1, 7, 7]), ("qwen2_5_vl", [0, 4, 28, 28]), ("qwen3_vl", [0, 0, 0, 0])],
)
def test_each_token_has_its_time_row_and_column(make_config, family, ticks):
    config = make_config(family)
    if family == "qwen2_5_vl":
        config.vision_config.tokens_per_second = 2
    found = make_adapter(config).token_positions(CUT)
    assert found[:, 0].tolist() == ticks
    assert found[:, 1:].tolist() == [[0, 0], [2, 0], [0, 2], [1, 2]]


def test_times_equal_those_of_a_whole_video(make_config):
    """Tokens that were not merged stand where an uncompressed video has them."""
    adapter = make_adapter(make_config("qwen2_5_vl"))
    centres = 0.5 + 2.0 * np.arange(6)
    cut = tokens(centres.tolist(), [[0, 0]] * 6, [0] * 6)
    per_second = adapter.model_config.vision_config.tokens_per_second
    assert adapter.token_positions(cut)[:, 0].tolist() == [
        int(2 * k * per_second) for k in range(6)
    ]


def test_qwen3_writes_times_before_what_shares_them(make_config):
    text = make_adapter(make_config("qwen3_vl")).expand_tokens(f"a {VIDEO_MARK} b", CUT)
    assert text.count("<|video_pad|>") == 4
    assert text.count("seconds>") == 3
    assert "<14.4 seconds><|vision_start|><|video_pad|><|video_pad|><|vision_end|> b" in text


def test_without_own_positions_tokens_are_a_video_of_one_token_groups(make_config):
    adapter = make_adapter(make_config("qwen2_5_vl"), temporal_positions="grid")
    assert adapter.token_positions(CUT).tolist() == [[i, 0, 0] for i in range(4)]


def test_facts_say_where_events_lie():
    hit = SearchHit(
        event_id="v:3", video_id="v", uri="v.mp4", part=0, index=3, start_s=50_021.0,
        end_s=50_028.2, video_start_s=50_000.0,
    )  # fmt: skip
    whole = {"v": VideoLength(5, 60.0)}
    assert event_facts([hit], whole) == "Scene 4 of 5: 7 seconds long, at 21 seconds, 40 %."
    short = dataclasses.replace(hit, end_s=50_022.0)
    assert "1 second long" in event_facts([short], whole)
