"""Which engine a configuration names."""

from __future__ import annotations

import importlib.util

import pytest

from marc_core.config import MethodConfig, load_config
from marc_core.errors import ConfigError, ModelLoadError
from marc_core.models.engines import load_engine
from marc_core.models.transformers_engine import TransformersEngine


def test_transformers_is_the_default(student_config):
    engine = load_engine(student_config())
    try:
        assert isinstance(engine, TransformersEngine)
    finally:
        engine.close()


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_a_missing_engine_names_its_extra(student_config):
    with pytest.raises(ModelLoadError, match=r"marc-video\[vllm\]"):
        load_engine(student_config(engine="vllm"))


def test_vllm_cannot_place_single_tokens():
    with pytest.raises(ConfigError, match="temporal_positions=grid"):
        load_config(MethodConfig, overrides=["student.engine=vllm"])
    for more in ("student.temporal_positions=grid", "compress.mode=plain"):
        assert load_config(MethodConfig, overrides=["student.engine=vllm", more])
