"""The student: frames -> features, and (question, compressed video) -> answer, on stock
transformers. The teacher is the same class given an uncompressed video.

    encode_events   frames of events -> EventFeatures           (vision tower; index time)
    prepare         prompt + CompressedVideo -> token ids and position ids
    generate        prompts + videos -> texts                   (batched, left-padded)
    logits          prompts + videos + given completions -> logits with gradients (training)

Letters: B batch, S prompt tokens, C completion tokens, V vocabulary, E events, F frames,
T groups, P tokens of a group, D channels.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GenerationConfig

from marc_core.compress import CompressedVideo
from marc_core.config import StudentConfig
from marc_core.models.adapters import make_adapter
from marc_core.models.positions import position_ids
from marc_core.models.preprocess import pixel_settings
from marc_core.models.prompt import chat_text
from marc_core.models.vision_tower import encode_events
from marc_core.types import EventFeatures


@dataclass(frozen=True, slots=True)
class Prepared:
    """One prompt as the model takes it. input_ids: S ids. position_ids_3S: (3, S) int64."""

    input_ids: list[int]
    position_ids_3S: torch.Tensor
    video: CompressedVideo | None

    @property
    def visual_tokens(self) -> int:
        return 0 if self.video is None else self.video.num_tokens


@dataclass(frozen=True, kw_only=True, slots=True)
class Generation:
    """One sampled or greedy answer.

    token_ids: generated ids with the end token, without padding. finished: it ended by itself.
    timings: {"generate_s": wall-clock seconds of the batch it was part of}.
    """

    text: str
    token_ids: list[int]
    prompt_tokens: int
    visual_tokens: int
    generated_tokens: int
    finished: bool
    timings: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CompletionLogits:
    """Teacher-forced logits of completions: logits_BCV, targets_BC int64, mask_BC bool."""

    logits_BCV: torch.Tensor
    targets_BC: torch.Tensor
    mask_BC: torch.Tensor

    def log_probs(self) -> torch.Tensor:
        """Return (B, C) float32 log-probabilities of the targets, 0 where masked."""
        log_probs_BCV = self.logits_BCV.float().log_softmax(-1)
        picked_BC = log_probs_BCV.gather(-1, self.targets_BC[..., None])[..., 0]
        return picked_BC.masked_fill(~self.mask_BC, 0.0)


class Student:
    """A Qwen-VL model with its tokenizer. Build it with `load_student`, or from parts in tests.

    model may be replaced by a wrapped version of itself (DDP's module, FSDP) between calls.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        config: StudentConfig,
        *,
        fingerprint: str = "unnamed",
        directory: Path | None = None,
        position_rule: Literal["max", "hf5"] = "max",
    ) -> None:
        """position_rule: of `position_ids`; "hf5" is for proofs of equality with the library."""
        self._position_rule: Literal["max", "hf5"] = position_rule
        self.model, self.tokenizer, self.config = model, tokenizer, config
        self.fingerprint = fingerprint
        self.pixels = pixel_settings(model.config, directory)
        self.adapter = make_adapter(model.config, temporal_positions=config.temporal_positions)
        self._eos_ids = _eos_ids(model, tokenizer)
        self._pad_id = tokenizer.pad_token_id
        if self._pad_id is None:
            self._pad_id = self._eos_ids[0]
        model.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]  # ours alone

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = self.model.dtype
        return dtype

    def encode_events(
        self, events: Sequence[tuple[NDArray[np.uint8], NDArray[np.float64]]]
    ) -> list[EventFeatures]:
        """Return the uncompressed features of events given as (frames (F, H, W, 3), times_s (F,)).

        Each event is its own grid row, so its features do not depend on its neighbours. Gradients
        flow unless the caller turns them off. Features are on the model's device in its dtype.
        """
        return encode_events(
            self.model.model.visual,
            self.adapter,
            self.pixels,
            events,
            max_pixels=self.config.frame_max_pixels,
        )

    def prepare(self, prompt: str, video: CompressedVideo | None) -> Prepared:
        """Return the prompt (a user's turn, see `question_text`) as ids and positions.

        video None gives a prompt of text only.
        """
        text = chat_text(self.tokenizer, prompt, with_video=video is not None)
        if video is not None:
            text = self.adapter.expand(text, video)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        video_id = self.model.config.video_token_id
        positions = position_ids(
            [token == video_id for token in ids],
            [] if video is None else self.adapter.blocks(video),
            rule=self._position_rule,
        )
        return Prepared(list(ids), positions, video)

    @torch.no_grad()
    def generate(
        self,
        prompts: Sequence[str] | Sequence[Prepared],
        videos: Sequence[CompressedVideo | None] | None = None,
        *,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        num_return_sequences: int = 1,
        seed: int | None = None,
        choices: Sequence[Sequence[str]] = (),
    ) -> list[Generation]:
        """Return len(prompts) * num_return_sequences generations, prompt by prompt.

        prompts: user turns with their `videos`, or prepared prompts. Limits and temperature
        default to the configuration's; temperature 0 is greedy. seed: makes sampling repeatable
        without touching the process's generators; None samples from them. choices: for every
        prompt the texts of which its answer must be one, empty where it is free.
        """
        started = time.perf_counter()
        prepared = self._prepared(prompts, videos)
        settings = self._generation_config(max_new_tokens, temperature, num_return_sequences)
        inputs = self._collate(prepared)
        prompt_tokens = inputs["input_ids"].shape[1]
        constraint = self._constraint(prompt_tokens, choices, num_return_sequences)
        with _seeded(seed, self.device):
            ids = self.model.generate(**inputs, generation_config=settings, **constraint)
        new_ids = ids[:, prompt_tokens:].tolist()
        timings = {"generate_s": time.perf_counter() - started}
        return [
            self._generation(row, prepared[i // num_return_sequences], timings)
            for i, row in enumerate(new_ids)
        ]

    def logits(
        self, prepared: Sequence[Prepared], completions: Sequence[Sequence[int]]
    ) -> CompletionLogits:
        """Return teacher-forced logits of one completion per prompt, with gradients.

        completions: token ids (`completion_ids`, or `Generation.token_ids`), ragged. Memory is
        B * C * V floats: micro-batch for large vocabularies.
        """
        assert len(prepared) == len(completions), "one completion per prompt"
        longest = max(len(c) for c in completions)
        inputs = self._collate(prepared, completions)
        output = self.model(**inputs, logits_to_keep=longest + 1, use_cache=False)
        targets_BC = inputs["input_ids"][:, -longest:]
        mask_BC = inputs["attention_mask"][:, -longest:].bool()
        return CompletionLogits(output.logits[:, :-1], targets_BC, mask_BC)

    def completion_ids(self, text: str) -> list[int]:
        """Return the ids of an answer as the model should write it, with its end token."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return [*ids, self._eos_ids[0]]

    def _prepared(
        self,
        prompts: Sequence[str] | Sequence[Prepared],
        videos: Sequence[CompressedVideo | None] | None,
    ) -> list[Prepared]:
        if videos is None:
            videos = [None] * len(prompts)
        assert len(videos) == len(prompts), "one video (or None) per prompt"
        pairs: Iterator[tuple[str | Prepared, CompressedVideo | None]] = zip(
            prompts, videos, strict=True
        )
        return [p if isinstance(p, Prepared) else self.prepare(p, v) for p, v in pairs]

    def _collate(
        self, prepared: Sequence[Prepared], completions: Sequence[Sequence[int]] = ()
    ) -> dict[str, Any]:
        """Pad prompts on the left and completions on the right; positions continue by 1."""
        length = max(len(p.input_ids) for p in prepared)
        extra = max((len(c) for c in completions), default=0)
        shape = (len(prepared), length + extra)
        input_ids = torch.full(shape, self._pad_id)
        attention_mask = torch.zeros(shape, dtype=torch.long)
        positions = torch.zeros(3, *shape, dtype=torch.long)
        for i, p in enumerate(prepared):
            start, new = length - len(p.input_ids), list(completions[i]) if completions else []
            end = length + len(new)
            input_ids[i, start:end] = torch.tensor(p.input_ids + new)
            attention_mask[i, start:end] = 1
            positions[:, i, start:length] = p.position_ids_3S
            positions[:, i, length:] = p.position_ids_3S[:, -1:] + 1 + torch.arange(extra)
        inputs: dict[str, Any] = {
            "input_ids": input_ids.to(self.device),
            "attention_mask": attention_mask.to(self.device),
            "position_ids": positions.to(self.device),
        }
        videos = [p.video for p in prepared if p.video is not None]
        if videos:
            features = self.adapter.encoder_outputs(
                [v.groups_KPD.flatten(0, 1).to(self.dtype) for v in videos],
                [
                    None
                    if v.deepstack_LKPD is None
                    else v.deepstack_LKPD.flatten(1, 2).to(self.dtype)
                    for v in videos
                ],
            )
            inputs["mm_encoder_outputs"] = {"video": features}
        return inputs

    def _constraint(
        self, prompt_tokens: int, choices: Sequence[Sequence[str]], num_return_sequences: int
    ) -> dict[str, Any]:
        """Return the argument of `generate` that keeps answers to their choices."""
        if not any(choices):
            return {}
        ids = [[self.completion_ids(text) for text in texts] for texts in choices]
        every = list(range(self.model.config.get_text_config().vocab_size))

        def allowed(row: int, sequence: torch.Tensor) -> list[int]:
            own = ids[row // num_return_sequences]
            return next_ids(own, sequence[prompt_tokens:].tolist()) or every

        return {"prefix_allowed_tokens_fn": allowed}

    def _generation_config(
        self, max_new_tokens: int | None, temperature: float | None, num_return_sequences: int
    ) -> GenerationConfig:
        config = self.model.config
        heat = self.config.temperature if temperature is None else temperature
        sampling = {"temperature": heat, "top_k": 0, "top_p": 1.0} if heat > 0 else {}
        return GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=max_new_tokens or self.config.max_new_tokens,
            do_sample=heat > 0,
            num_return_sequences=num_return_sequences,
            eos_token_id=self._eos_ids,
            pad_token_id=self._pad_id,
            # A sampled video token would ask for features that do not exist.
            suppress_tokens=[
                config.video_token_id,
                config.image_token_id,
                config.vision_start_token_id,
                config.vision_end_token_id,
            ],
            **sampling,
        )

    def _generation(
        self, row: list[int], prepared: Prepared, timings: dict[str, float]
    ) -> Generation:
        ends = [i for i, token in enumerate(row) if token in self._eos_ids]
        ids = row[: ends[0] + 1] if ends else row
        return Generation(
            text=self.tokenizer.decode(ids, skip_special_tokens=True).strip(),
            token_ids=ids,
            prompt_tokens=len(prepared.input_ids),
            visual_tokens=prepared.visual_tokens,
            generated_tokens=len(ids),
            finished=bool(ends),
            timings=dict(timings),
        )


def next_ids(choices: Sequence[Sequence[int]], prefix: Sequence[int]) -> list[int]:
    """Return the ids that can follow `prefix` in one of the choices; none after a whole one."""
    size = len(prefix)
    following = (c[size] for c in choices if len(c) > size and list(c[:size]) == list(prefix))
    return list(dict.fromkeys(following))


def _eos_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end an answer; the tokenizer's own end token first."""
    stored = getattr(model.generation_config, "eos_token_id", None)
    ids = stored if isinstance(stored, list) else [stored]
    ids = [tokenizer.eos_token_id, *ids]
    return list(dict.fromkeys(int(i) for i in ids if i is not None))


@contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Seed torch for a block and give the process's generator states back afterwards."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices, enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        yield
