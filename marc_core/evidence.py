"""What a student reads of a question's events: plain data that crosses from a retriever to a
student in another process, or from a rollout to a trainer.

    Preparer --Evidence.to_bytes--> network or object store --Evidence.from_bytes--> StudentEngine

No handles, no device tensors, no pictures: tensors on the CPU in the student's precision, the
prompt as token ids, citations as ids and times. 81 tokens of 2,048 bfloat16 channels are 332 KB.

Letters: N visual tokens, D channels, L deepstack layers.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import torch

from marc_core.errors import AnswerError


@dataclass(frozen=True, kw_only=True, slots=True)
class Citation:
    """An event that the student saw: where it is, and how well it fits the question.

    start_s, end_s: on the source's own clock; video_start_s: where the video's 0:00 is on it.
    recorded_from: the event's wall clock, ISO 8601 with offset, where it is known.
    score: what ranked it (cosine, or fused rank); cosine: its similarity to the question. Both
    None where retrieval was bypassed.
    """

    event_id: str
    video_id: str
    uri: str
    start_s: float
    end_s: float
    video_start_s: float = 0.0
    recorded_from: str | None = None
    score: float | None = None
    cosine: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class VisualRun:
    """A run of consecutive visual tokens in the prompt.

    ids: token ids of text between the run before (or `Evidence.before_ids`) and this one; Qwen3-VL
    writes a group's time there, the other families have one run and no text. num_tokens: visual
    tokens of the run.
    """

    ids: tuple[int, ...]
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One question's prompt and visual tokens.

    before_ids, after_ids: the prompt's token ids around the visual tokens; the full prompt is
        before_ids, then for each run its ids and num_tokens placeholders, then after_ids.
    runs: how the N visual tokens are spread over the prompt, in order.
    tokens_ND: (N, D) on the CPU in the student's precision. deepstack_LND: (L, N, D) where the
        family needs it (Qwen3-VL).
    positions_N3: (N, 3) int64 temporal, height and width index, each counted from the start of the
        token's run; text goes on behind a run's largest index.
    choices: the texts among which the answer is decoded; none where it is free.
    citations: the events, in the order in which they are shown. retrieval: how they were chosen.
    source_tokens: visual tokens of these events without any compression.
    vision_fingerprint: of the vision tower that made the tokens; a student of another tower must
        refuse them.
    """

    before_ids: tuple[int, ...]
    after_ids: tuple[int, ...]
    runs: tuple[VisualRun, ...]
    tokens_ND: torch.Tensor
    positions_N3: torch.Tensor
    deepstack_LND: torch.Tensor | None = None
    choices: tuple[str, ...] = ()
    citations: tuple[Citation, ...] = ()
    retrieval: Literal["retrieved", "bypassed"] = "retrieved"
    source_tokens: int = 0
    vision_fingerprint: str = ""

    @property
    def num_tokens(self) -> int:
        """Visual tokens that the student reads."""
        return len(self.tokens_ND)

    @property
    def key(self) -> str:
        """64 hex digits of everything that the student reads; equal evidence has an equal key."""
        digest = hashlib.sha256(json.dumps(self._plain(), sort_keys=True).encode())
        self._add_tensors(digest)
        return digest.hexdigest()

    @property
    def visual_key(self) -> str:
        """64 hex digits of the visual tokens alone, with their positions and their tower."""
        digest = hashlib.sha256(self.vision_fingerprint.encode())
        self._add_tensors(digest)
        return digest.hexdigest()

    def to_bytes(self) -> bytes:
        """Return the evidence as one safetensors file, its plain values in the header."""
        from safetensors.torch import save

        shown = {"citations": [asdict(c) for c in self.citations], "retrieval": self.retrieval}
        plain = self._plain() | shown | {"source_tokens": self.source_tokens}
        tensors = {name: t.contiguous() for name, t in self._tensors().items()}
        return bytes(save(tensors, metadata={"evidence": json.dumps(plain)}))

    @classmethod
    def from_bytes(cls, data: bytes) -> Evidence:
        """Return the evidence that `to_bytes` wrote. Raises AnswerError for other bytes."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        try:
            tensors: dict[str, Any] = load(data)
            length = int.from_bytes(data[:8], "little")
            header = json.loads(data[8 : 8 + length])["__metadata__"]
            plain = json.loads(header["evidence"])
        except (SafetensorError, KeyError, ValueError) as error:
            raise AnswerError(
                f"Evidence must be bytes of Evidence.to_bytes. Got {len(data)} other bytes: {error}"
            ) from error
        return cls(**_values(plain) | tensors)

    def _tensors(self) -> dict[str, torch.Tensor]:
        found = {name: getattr(self, name) for name in _TENSORS}
        return {name: tensor for name, tensor in found.items() if tensor is not None}

    def _add_tensors(self, digest: Any) -> None:
        for name, tensor in sorted(self._tensors().items()):
            digest.update(name.encode())
            digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())

    def _plain(self) -> dict[str, Any]:
        """What decides the answer besides the tensors."""
        return {
            "before_ids": list(self.before_ids),
            "after_ids": list(self.after_ids),
            "runs": [[list(run.ids), run.num_tokens] for run in self.runs],
            "choices": list(self.choices),
            "vision_fingerprint": self.vision_fingerprint,
        }


_TENSORS = ("tokens_ND", "positions_N3", "deepstack_LND")


def _values(plain: dict[str, Any]) -> dict[str, Any]:
    tuples = {name: tuple(plain[name]) for name in ("before_ids", "after_ids", "choices")}
    runs = tuple(VisualRun(ids=tuple(ids), num_tokens=n) for ids, n in plain["runs"])
    known = {f.name for f in fields(Citation)}
    citations = tuple(
        Citation(**{k: v for k, v in c.items() if k in known}) for c in plain["citations"]
    )
    return plain | tuples | {"runs": runs, "citations": citations}


def clock_time(moment: dt.datetime | None) -> str | None:
    """Return a moment as a citation carries it."""
    return None if moment is None else moment.isoformat()
