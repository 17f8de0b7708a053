"""Vision-language models that tell an event in words, behind one Protocol.

    family of a student (Qwen-VL)   frames --VisionTower--> groups --prompt--> StudentEngine
    any other of transformers       frames --its processor's chat template--> its generate()

The first reads an event as the student does, but for compression, and answers many at once. The
second gets the frames as pictures in order of time, resized as its own processor does it, and
answers one prompt at a time.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from marc_core.compress import compress_across
from marc_core.config import CompressConfig, StudentConfig
from marc_core.errors import ModelLoadError
from marc_core.models.adapters import FAMILIES
from marc_core.models.answering import answer_all
from marc_core.models.checkpoints import without_bar
from marc_core.models.engine import GenerationRequest
from marc_core.models.vision_tower import device_of, dtype_of
from marc_core.question import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from marc_core.config import TextConfig
    from marc_core.evidence import Evidence
    from marc_core.models.student_files import StudentFiles
    from marc_core.models.transformers_engine import TransformersEngine
    from marc_core.models.vision_tower import VisionTower

    Shown = tuple[NDArray[np.uint8], NDArray[np.float64]]
    """An event's frames (F, H, W, 3) and their times_s (F,)."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event in words. confidence: 0 - 1, the mean probability (geometric) of its tokens."""

    text: str
    confidence: float


class Answered(Protocol):
    """A model's answer to a prompt. log_probs: of its tokens."""

    @property
    def text(self) -> str:
        """What it says."""
        ...

    @property
    def log_probs(self) -> tuple[float, ...]:
        """Of each of its tokens."""
        ...


class Describer(Protocol):
    """A vision-language model with its prompts."""

    def describe(self, shown: Sequence[Shown]) -> list[Told]:
        """Return each event in words, the answers to all prompts as one text."""
        ...

    def close(self) -> None:
        """Let go of processes, threads and memory."""
        ...


def make_describer(model: StudentConfig, text: TextConfig, directory: Path) -> Describer:
    """Return the model of a directory; its weights are loaded by the first event.

    Raises ModelLoadError for one that is none, or that gives no way to show it pictures.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    try:
        known = AutoConfig.from_pretrained(directory)
    except (OSError, ValueError, KeyError) as error:
        raise _unloadable(model, error) from error
    if known.model_type in FAMILIES:
        return StudentDescriber(model, text)
    if type(known) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelLoadError(
            "text.caption_model must read pictures and write text (AutoModelForImageTextToText of "
            f"transformers). '{model.model}' is '{known.model_type}'."
        )
    return ChatDescriber(model, text, directory)


class StudentDescriber:
    """A model of the families that a student may have."""

    def __init__(self, model: StudentConfig, text: TextConfig) -> None:
        self._model, self._text = model, text

    def describe(self, shown: Sequence[Shown]) -> list[Told]:
        """Return each event in words; all are answered together."""
        prompts = self._text.caption_prompts
        sampling = Sampling(temperature=0.0, max_tokens=self._text.caption_max_tokens)
        requests = [
            GenerationRequest(id=uuid.uuid4().hex, evidence=evidence, sampling=sampling)
            for evidence in self._evidence(shown)
        ]
        answers = answer_all(self._engine, requests)
        count = len(prompts)
        return [joined(answers[i * count : (i + 1) * count]) for i in range(len(shown))]

    def close(self) -> None:
        """End the model's thread."""
        if "_engine" in self.__dict__:
            self._engine.close()

    def _evidence(self, shown: Sequence[Shown]) -> Iterator[Evidence]:
        """Yield what the model reads for each event and prompt."""
        for features in self._tower.encode_events(shown):
            video = compress_across([features], CompressConfig(mode="none"))
            for prompt in self._text.caption_prompts:
                yield self._files.evidence(prompt, video)

    @cached_property
    def _files(self) -> StudentFiles:
        from marc_core.models.student_files import StudentFiles

        return StudentFiles(self._model)

    @cached_property
    def _tower(self) -> VisionTower:
        from marc_core.models.vision_tower import VisionTower

        return VisionTower(self._model)

    @cached_property
    def _engine(self) -> TransformersEngine:
        from marc_core.models.transformers_engine import TransformersEngine

        return TransformersEngine(self._model)


@dataclass(frozen=True, slots=True)
class _Answer:
    text: str
    log_probs: tuple[float, ...]


class ChatDescriber:
    """Any other vision-language model of transformers, by its processor's chat template."""

    def __init__(self, model: StudentConfig, text: TextConfig, directory: Path) -> None:
        """Raise ModelLoadError without a processor that can be loaded, or a chat template."""
        import transformers

        self._config, self._text, self._directory = model, text, directory
        processors: Any = transformers.AutoProcessor
        try:
            self._processor: Any = processors.from_pretrained(directory)
        except (OSError, ValueError, KeyError, TypeError, ImportError) as error:
            raise _unloadable(model, error) from error
        if not getattr(self._processor, "chat_template", None):
            raise ModelLoadError(
                f"text.caption_model '{model.model}' has no chat template, so nobody can say how "
                "it is shown pictures. Name a model that was trained to follow instructions."
            )

    def describe(self, shown: Sequence[Shown]) -> list[Told]:
        """Return each event in words, one prompt at a time: memory is that of one event."""
        return [
            joined([self._answer(frames, prompt) for prompt in self._text.caption_prompts])
            for frames, _ in shown
        ]

    def close(self) -> None:
        """Let go of the model."""
        self.__dict__.pop("_model", None)

    def _answer(self, frames_FHWC: NDArray[np.uint8], prompt: str) -> _Answer:
        import torch
        from PIL import Image

        pictures = [{"type": "image", "image": Image.fromarray(frame)} for frame in frames_FHWC]
        turn = {"role": "user", "content": [*pictures, {"type": "text", "text": prompt}]}
        inputs = self._processor.apply_chat_template(
            [turn], add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device, self._model.dtype)
        with torch.inference_mode():
            made = self._model.generate(
                **inputs,
                do_sample=False,
                num_beams=1,
                max_new_tokens=self._text.caption_max_tokens,
                return_dict_in_generate=True,
                output_logits=True,
            )
        ids = made.sequences[0, -len(made.logits) :]
        log_probs = [
            logits[0].float().log_softmax(-1)[token].item()
            for logits, token in zip(made.logits, ids, strict=True)
        ]
        text = self._processor.decode(ids, skip_special_tokens=True)
        return _Answer(text.strip(), tuple(log_probs))

    @cached_property
    def _model(self) -> Any:
        from safetensors import SafetensorError
        from transformers import AutoModelForImageTextToText

        dtype = dtype_of(self._config, self._directory)
        try:
            with without_bar():
                model: Any = AutoModelForImageTextToText.from_pretrained(
                    self._directory, dtype=dtype, use_safetensors=True
                )
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            raise _unloadable(self._config, error) from error
        return model.to(device_of(self._config)).eval()


def joined(answers: Sequence[Answered]) -> Told:
    """Return an event's answers as one text; answers alike are told once."""
    texts = list(dict.fromkeys(" ".join(answer.text.split()) for answer in answers))
    log_probs = [p for answer in answers for p in answer.log_probs]
    mean = math.exp(sum(log_probs) / len(log_probs)) if log_probs else 0.0
    return Told("; ".join(text for text in texts if text), mean)


def _unloadable(model: StudentConfig, error: Exception) -> ModelLoadError:
    reason = " ".join(str(error).split())
    return ModelLoadError(
        f"text.caption_model '{model.model}' cannot be loaded: {reason} Name a directory that "
        "save_pretrained of model and processor wrote, or a hub id of a vision-language model."
    )
