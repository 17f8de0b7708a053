"""Captions by vision-language models of other families than a student's."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from marc_core.config import StudentConfig, TextConfig
from marc_core.errors import ModelLoadError
from marc_core.text.describers import ChatDescriber, make_describer
from tests.marc_core.text.vlms import write_idefics, write_llava

TEXT = TextConfig(caption_prompts=("word3 word4", "word5"), caption_max_tokens=6)


def describer(folder: Path, text: TextConfig = TEXT) -> ChatDescriber:
    made = make_describer(StudentConfig(model=str(folder), device="cpu"), text, folder)
    assert isinstance(made, ChatDescriber)
    return made


def frames(seed: int, count: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 255, (count, 40, 64, 3), np.uint8), np.arange(float(count))


@pytest.mark.parametrize("write", [write_llava, write_idefics])
def test_events_are_told_each_by_itself(write: Callable[[Path], Path], tmp_path: Path) -> None:
    model = describer(write(tmp_path))
    shown = [frames(0), frames(1, count=1)]
    together = model.describe(shown)
    assert together == [model.describe([one])[0] for one in shown]
    assert all(told.text and "<" not in told.text for told in together)
    assert all(0 < told.confidence < 1 for told in together)
    model.close()


def test_the_answer_is_that_of_plain_transformers(tmp_path: Path) -> None:
    import torch
    from PIL import Image
    from transformers import AutoProcessor, LlavaForConditionalGeneration

    write_llava(tmp_path)
    pictures, _ = frames(0, count=2)
    one = dataclasses.replace(TEXT, caption_prompts=("word7",))
    (told,) = describer(tmp_path, one).describe([(pictures, np.arange(2.0))])
    processor = AutoProcessor.from_pretrained(tmp_path)
    model = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    inputs = processor(
        images=[Image.fromarray(picture) for picture in pictures],
        text="<|user|><image><image> word7<|assistant|>",
        return_tensors="pt",
    )
    ids, log_probs = inputs["input_ids"], []
    for _ in range(6):
        with torch.inference_mode():
            logits = model(input_ids=ids, pixel_values=inputs["pixel_values"]).logits[0, -1]
        best = int(logits.argmax())
        log_probs.append(logits.log_softmax(-1)[best].item())
        ids = torch.cat([ids, torch.tensor([[best]])], 1)
        if best == model.config.text_config.eos_token_id:
            break
    new = ids[0, inputs["input_ids"].shape[1] :]
    assert told.text == " ".join(processor.decode(new, skip_special_tokens=True).split())
    assert told.confidence == pytest.approx(np.exp(np.mean(log_probs)), rel=1e-4)


def test_what_cannot_caption_is_refused_before_weights_are_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelLoadError, match="must read pictures and write text"):
        describer(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "no such thing"}')
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        describer(tmp_path)
    bare = write_llava(tmp_path / "bare", template=None)
    with pytest.raises(ModelLoadError, match="no chat template"):
        describer(bare)
    (bare / "tokenizer.json").unlink()
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        describer(bare)
