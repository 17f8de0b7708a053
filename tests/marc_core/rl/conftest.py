"""A student that a test may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from marc_core.config import StudentConfig
from marc_core.models.policy import Policy, freeze_vision
from marc_core.models.transformers_engine import TransformersEngine


@pytest.fixture
def student(
    student_config: Callable[..., StudentConfig],
) -> Iterator[tuple[TransformersEngine, Policy]]:
    """An engine of its own, and the policy over the same model."""
    with TransformersEngine(student_config("qwen2_5_vl")) as engine:
        freeze_vision(engine.model)
        yield engine, Policy(engine.model, engine.files.adapter, pad_id=0)
