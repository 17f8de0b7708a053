"""The margin within which events fit a question alike."""

from __future__ import annotations

import json

import numpy as np
import pytest

from marc_core.config import EncoderConfig
from marc_core.embed.load import encoder_facts
from marc_core.embed.margin import (
    SPREADS,
    UNRELATED,
    EncoderSettings,
    calibrated_margin,
    stored_settings,
)
from marc_core.errors import ModelLoadError


class Narrow:
    """An encoder whose texts all point almost the same way, as a SigLIP's do."""

    def encode_texts(self, texts):
        x = np.zeros((len(texts), 4), np.float32)
        x[:, 0], x[:, 1] = 0.1, 1.0
        return x


def test_the_tiny_encoders_own_is_stored_beside_it():
    assert encoder_facts(EncoderConfig()).hit_margin == 0.15


def test_it_is_the_spread_of_unrelated_scores():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 4)).astype(np.float32)
    expected = SPREADS * (0.1 * vectors[:, 0] + vectors[:, 1]).std()
    assert calibrated_margin(Narrow(), vectors) == pytest.approx(expected, rel=1e-4)
    assert calibrated_margin(Narrow(), vectors * 0.02) == pytest.approx(0.02 * expected, rel=1e-4)
    assert calibrated_margin(Narrow(), vectors[:1]) == 0.0
    assert len(set(UNRELATED)) == len(UNRELATED)


def test_no_file_says_nothing(tmp_path):
    assert stored_settings(tmp_path) == EncoderSettings(hit_margin=None, footage=True)


@pytest.mark.parametrize(
    "content", ["{", "[]", "{}", '{"hit_margin": "a"}', '{"hit_margin": 0}', '{"hit_margin": true}',
                '{"hit_margin": 0.1, "other": 1}', '{"footage": 1}', '{"footage": null}'],
)  # fmt: skip
def test_a_wrong_file_is_refused(tmp_path, content):
    (tmp_path / "marc.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"marc.json' must hold one JSON object"):
        stored_settings(tmp_path)


def test_a_right_file_is_read(tmp_path):
    (tmp_path / "marc.json").write_text(json.dumps({"hit_margin": 0.04}))
    assert stored_settings(tmp_path) == EncoderSettings(hit_margin=0.04)
    (tmp_path / "marc.json").write_text(json.dumps({"footage": False}))
    assert stored_settings(tmp_path) == EncoderSettings(footage=False)
