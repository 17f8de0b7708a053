"""The engine that a configuration names (`student.engine`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from marc_core.config import StudentConfig

if TYPE_CHECKING:
    from marc_core.models.transformers_engine import TransformersEngine
    from marc_core.models.vllm_engine import VllmEngine


def load_engine(config: StudentConfig) -> TransformersEngine | VllmEngine:
    """Load the student into its engine. Raises ModelLoadError, also where vLLM is not installed."""
    if config.engine == "vllm":
        from marc_core.models.vllm_engine import VllmEngine

        return VllmEngine(config)
    from marc_core.models.transformers_engine import TransformersEngine

    return TransformersEngine(config)
