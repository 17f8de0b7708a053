"""A student without its weights: what turns a question and its compressed video into Evidence.

    config.json, tokenizer, marc.json --StudentFiles--> .evidence(text, video) -> Evidence

A retriever in a process of its own needs these few hundred KB and no language model.

Letters: N visual tokens of a prompt, D channels, L deepstack layers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from marc_core.compress import CompressedVideo, CutTokens
from marc_core.config import StudentConfig
from marc_core.errors import ModelLoadError
from marc_core.evidence import Evidence, VisualRun
from marc_core.models.adapters import Adapter, make_adapter
from marc_core.models.checkpoints import local_directory
from marc_core.models.model_settings import model_settings
from marc_core.models.positions import block_positions
from marc_core.models.preprocess import pixel_settings
from marc_core.models.prompt import chat_text
from marc_core.models.vision_tower import load_model_config, vision_fingerprint
from marc_core.question import Turn


@dataclass(frozen=True, kw_only=True, slots=True)
class EvidencePrompt:
    """The prompt's part of an Evidence; see there for the fields."""

    before_ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    runs: tuple[VisualRun, ...]
    positions_N3: torch.Tensor


class StudentFiles:
    """The configuration, tokenizer and settings of a student's directory.

    Raises ModelLoadError when they cannot be found or read.
    """

    def __init__(self, config: StudentConfig) -> None:
        self.config = config
        self.directory = local_directory("student", config.model, config.revision)
        self.model_config = load_model_config(self.directory, config.model)
        self.tokenizer = load_tokenizer(self.directory, config.model)
        self.settings = model_settings(self.directory)
        self.pixels = pixel_settings(self.model_config, self.directory)
        self.adapter = make_adapter(self.model_config, temporal_positions=config.temporal_positions)

    @cached_property
    def vision_fingerprint(self) -> str:
        """Fingerprint of the tower whose features the student reads."""
        return vision_fingerprint(self.config, self.directory)

    @property
    def tokens_a_frame(self) -> int:
        """Visual tokens of the largest frame that the student takes."""
        return max(1, self.config.frame_max_pixels // self.pixels.unit**2)

    def count_tokens(self, text: str) -> int:
        """Return the tokens of a text in a prompt."""
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def evidence(
        self,
        user_text: str,
        video: CompressedVideo | CutTokens | None,
        *,
        history: Sequence[Turn] = (),
        **shown: Any,
    ) -> Evidence:
        """Return the Evidence of a user's turn (`question_text`) about a compressed video.

        video: None gives a prompt of text only. shown: the other fields of Evidence (choices,
        citations, retrieval, source_tokens).
        """
        prompt = evidence_prompt(
            user_text, video, tokenizer=self.tokenizer, adapter=self.adapter, history=history
        )
        tokens_ND, deepstack_LND = self._no_tokens(), None
        if video is not None:
            tokens_ND, deepstack_LND = _tensors(video)
        return Evidence(
            before_ids=prompt.before_ids,
            after_ids=prompt.after_ids,
            runs=prompt.runs,
            positions_N3=prompt.positions_N3,
            tokens_ND=tokens_ND,
            deepstack_LND=deepstack_LND,
            vision_fingerprint=self.vision_fingerprint,
            **{"source_tokens": 0 if video is None else video.num_source_tokens} | shown,
        )

    def _no_tokens(self) -> torch.Tensor:
        return torch.zeros(0, int(self.model_config.get_text_config().hidden_size))


def _tensors(video: CompressedVideo | CutTokens) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return the (N, D) tokens and (L, N, D) deepstack features, on the CPU."""
    if isinstance(video, CutTokens):
        tokens_ND, deepstack = video.tokens_ND, video.deepstack_LND
    else:
        tokens_ND, deepstack = video.groups_KPD.flatten(0, 1), video.deepstack_LKPD
        deepstack = None if deepstack is None else deepstack.flatten(1, 2)
    return tokens_ND.cpu(), None if deepstack is None else deepstack.cpu()


def evidence_prompt(
    user_text: str,
    video: CompressedVideo | CutTokens | None,
    *,
    tokenizer: Any,
    adapter: Adapter,
    history: Sequence[Turn] = (),
) -> EvidencePrompt:
    """Return the token ids around the visual tokens of a chat prompt, and those tokens' positions.

    history: earlier turns; the video stands in the last turn.
    """
    text = chat_text(tokenizer, user_text, with_video=video is not None, history=history)
    if video is None:
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        empty = torch.zeros(0, 3, dtype=torch.long)
        return EvidencePrompt(before_ids=tuple(ids), after_ids=(), runs=(), positions_N3=empty)
    if isinstance(video, CutTokens):
        expanded, positions_N3 = adapter.expand_tokens(text, video), adapter.token_positions(video)
    else:
        expanded = adapter.expand(text, video)
        positions_N3 = torch.cat([block_positions(block).T for block in adapter.blocks(video)])
    ids = tokenizer(expanded, add_special_tokens=False)["input_ids"]
    parts = _split(ids, int(adapter.model_config.video_token_id))
    texts, sizes = parts[0::2], [len(run) for run in parts[1::2]]
    assert sum(sizes) == len(positions_N3), "visual runs do not match the positions"
    between = [(), *texts[1:-1]]
    return EvidencePrompt(
        before_ids=texts[0],
        after_ids=texts[-1],
        runs=tuple(VisualRun(ids=i, num_tokens=n) for i, n in zip(between, sizes, strict=True)),
        positions_N3=positions_N3,
    )


def load_tokenizer(directory: Path, name: str) -> Any:
    """Return the checkpoint's tokenizer, its chat template included. Raises ModelLoadError."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise ModelLoadError(
            f"The tokenizer of student '{name}' cannot be loaded from {directory}: {error}. Copy "
            "the checkpoint's tokenizer files there."
        ) from error
    path = directory / "chat_template.json"
    if tokenizer.chat_template is None and path.is_file():
        tokenizer.chat_template = json.loads(path.read_text())["chat_template"]
    return tokenizer


def _split(ids: Sequence[int], video_id: int) -> list[tuple[int, ...]]:
    """Return text, visual run, text, visual run, ..., text."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if (token == video_id) != (len(parts) % 2 == 0):
            parts.append([])
        parts[-1].append(token)
    if len(parts) % 2 == 0:
        parts.append([])
    return [tuple(part) for part in parts]
