"""MARC's requests in vLLM's words: the prompt, the sampling, the engine's own arguments.

Nothing here needs vLLM but `sampling_params`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from marc_core.errors import AnswerError, ConfigError, EngineError, ModelLoadError
from marc_core.evidence import Evidence
from marc_core.models.decoding import Row
from marc_core.models.engine import Delta
from marc_core.models.sampling import end_ids
from marc_core.models.student_files import StudentFiles
from marc_core.models.video_grid import VideoGrid, video_grid

LEAST_TEMPERATURE, MOST_TEMPERATURE = 0.01, 2.0
"""vLLM raises temperatures between 0 and the first to it, and refuses those above the second."""
CHOICES = "marc_choice_ids"
"""Name under which a request's choices travel in `SamplingParams.extra_args`."""
_FAMILIES = ("qwen2_vl", "qwen2_5_vl")


def check_installed() -> None:
    """Raise ModelLoadError where vLLM is missing."""
    if importlib.util.find_spec("vllm") is None:
        raise ModelLoadError(
            "The vLLM engine needs the package vllm, which is not installed. Install the extra: "
            "pip install 'marc-video[vllm]', in an environment of its own."
        )


def check_family(files: StudentFiles) -> None:
    """Raise ModelLoadError for a student whose evidence vLLM cannot express."""
    family = str(files.model_config.model_type)
    if family not in _FAMILIES:
        raise ModelLoadError(
            f"The vLLM engine reads students of type {', '.join(_FAMILIES)}. Got '{family}'. Use "
            "the transformers engine."
        )


def check_device(wanted: str, found: str) -> None:
    """Raise ModelLoadError where vLLM computes on another kind of device than is asked for."""
    if wanted != "auto" and torch.device(wanted).type != found:
        raise ModelLoadError(
            f"student.device must be 'auto' or '{found}', on which this build of vLLM computes. "
            f"Got '{wanted}'. Install the build for that device, or set student.device."
        )


def engine_arguments(
    directory: Path, dtype: torch.dtype, options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return vLLM's arguments: those that MARC relies on, and the caller's further ones.

    With both limits 0 the vision tower is not loaded, and no picture or video is accepted. Raises
    ConfigError for options that MARC sets.
    """
    own = {
        "model": str(directory),
        "dtype": str(dtype).removeprefix("torch."),
        "enable_mm_embeds": True,
        "limit_mm_per_prompt": {"image": 0, "video": 0},
        "logits_processors": ["marc_core.models.vllm_tokens:AnswerTokens"],
        "worker_extension_cls": "marc_core.models.vllm_worker.ReloadedHead",
        "logprobs_mode": "processed_logprobs",  # of the distribution that is drawn from
    }
    if both := sorted(own.keys() & options.keys()):
        raise ConfigError(
            f"Options of the vLLM engine must leave {', '.join(both)} to MARC. Got a value for "
            "them. Remove it."
        )
    return own | dict(options)


def stored_end_ids(files: StudentFiles) -> tuple[int, ...]:
    """Return the tokens that end an answer, as the loaded model has them."""
    from transformers import GenerationConfig

    if (files.directory / "generation_config.json").is_file():
        stored = GenerationConfig.from_pretrained(files.directory)
    else:
        stored = GenerationConfig.from_model_config(files.model_config)
    return end_ids(stored, files.tokenizer)


def fit_rows(rows: Sequence[Row], most: int) -> None:
    """Set a request's prompt size, and limit its samples to vLLM's `max_model_len`.

    Raises AnswerError for a prompt that leaves no room for an answer.
    """
    evidence = rows[0].evidence
    texts = (evidence.before_ids, *(run.ids for run in evidence.runs), evidence.after_ids)
    size = sum(map(len, texts)) + evidence.num_tokens
    if size >= most:
        raise AnswerError(
            f"A prompt must be shorter than vLLM's max_model_len, {most} tokens. Got {size}. "
            "Lower compress.budget_tokens or start the engine with a larger max_model_len."
        )
    for row in rows:
        row.prompt_tokens, row.max_tokens = size, min(row.max_tokens, most - size)


def failure_of(error: BaseException) -> EngineError:
    """Return an error of vLLM after which it answers no more, in MARC's words."""
    cause = error.__cause__ or error
    return EngineError(
        f"vLLM stopped: {type(cause).__name__}: {cause}. Start the engine again; its own messages "
        "say more."
    )


def vllm_prompt(evidence: Evidence, model_config: Any, dtype: torch.dtype) -> dict[str, Any]:
    """Return evidence as vLLM's prompt: token ids with one video token, and the video's features.

    vLLM puts as many tokens in its place as the grid has. Raises AnswerError for evidence that is
    no plain video.
    """
    has_seconds = model_config.model_type == "qwen2_5_vl"
    grid = video_grid(evidence, ticks_per_group=None if has_seconds else 1.0)
    if grid is None:
        return {"prompt_token_ids": [*evidence.before_ids, *evidence.after_ids]}
    video_id = int(model_config.video_token_id)
    before = [*evidence.before_ids, *evidence.runs[0].ids]
    return {
        "prompt_token_ids": [*before, video_id, *evidence.after_ids],
        "multi_modal_data": {"video": _video(evidence, grid, model_config, dtype)},
        # vLLM's own digest leaves the seconds out: equal features at other times would be mixed up
        "multi_modal_uuids": {"video": [evidence.visual_key]},
    }


def check_temperature(temperature: float) -> None:
    """Raise AnswerError for a temperature that vLLM would change or refuse."""
    if temperature and not LEAST_TEMPERATURE <= temperature <= MOST_TEMPERATURE:
        raise AnswerError(
            f"temperature for this engine must be 0 (greedy) or from {LEAST_TEMPERATURE} to "
            f"{MOST_TEMPERATURE}. Got {temperature}. Ask with another, or the transformers engine."
        )


def sampling_params(row: Row, end_ids: Sequence[int], *, seeded: bool) -> Any:
    """Return vLLM's sampling parameters of a sample. Raises AnswerError for what it cannot do."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    temperature, choices = row.record.temperature, row.record.choice_ids
    check_temperature(temperature)
    return SamplingParams(
        temperature=temperature,
        max_tokens=row.max_tokens,
        seed=row.generator.initial_seed() % 2**63 if seeded else None,
        stop_token_ids=list(end_ids),
        logprobs=0,  # of the drawn token alone
        detokenize=False,
        output_kind=RequestOutputKind.DELTA,
        extra_args={CHOICES: [list(ids) for ids in choices]} if choices else None,
    )


def pushed(row: Row, output: Any, end_ids: Sequence[int]) -> list[Delta]:
    """Return what a sample gains by vLLM's next output; tokens behind its end are dropped."""
    deltas: list[Delta] = []
    for token, log_probs in zip(output.token_ids, output.logprobs or (), strict=True):
        if row.finish_reason is None:
            deltas.append(row.push(int(token), float(log_probs[token].logprob), end_ids))
    return deltas


def _video(
    evidence: Evidence, grid: VideoGrid, model_config: Any, dtype: torch.dtype
) -> dict[str, torch.Tensor]:
    vision = model_config.vision_config
    merge = int(vision.spatial_merge_size)
    video = {
        "video_embeds": evidence.tokens_ND.to(dtype),
        "video_grid_thw": torch.tensor([[grid.groups, grid.height * merge, grid.width * merge]]),
    }
    if model_config.model_type == "qwen2_5_vl":
        seconds = grid.ticks_per_group / float(vision.tokens_per_second)
        video["second_per_grid_ts"] = torch.tensor([seconds], dtype=torch.float64)
    return video
