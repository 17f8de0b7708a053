"""Weights that are no numbers end an engine with a message that says so."""

from __future__ import annotations

import pytest

from marc_core.errors import EngineError
from marc_core.models.answering import answer_all
from marc_core.models.engine import GenerationRequest
from marc_core.models.transformers_engine import TransformersEngine
from marc_core.question import Sampling


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_broken_weights_are_named(temperature, student_config, make_evidence):
    config = student_config()
    with TransformersEngine(config) as engine:
        engine.model.get_input_embeddings().weight.data.fill_(float("nan"))
        request = GenerationRequest(
            id="1",
            evidence=make_evidence(config),
            sampling=Sampling(temperature=temperature, max_tokens=2),
        )
        with pytest.raises(EngineError, match=r"Got NaN: its weights are broken"):
            answer_all(engine, [request])
