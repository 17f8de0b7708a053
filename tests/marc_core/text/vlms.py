"""Tiny vision-language models with random weights of families that no student may be of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEMPLATE = (
    "{% for turn in messages %}<|user|>{% for part in turn['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %} {{ part['text'] }}{% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
_SPECIAL = (
    "<eos>", "<pad>", "<|user|>", "<|assistant|>", "<image>", "<fake_token_around_image>",
    "<end_of_utterance>", "<global-img>",
)  # fmt: skip
_SMALL = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
}  # fmt: skip


def write_llava(folder: Path, *, template: str | None = TEMPLATE) -> Path:
    """Write a LLaVA of 28 x 28 pixels, as save_pretrained does it."""
    from transformers import (
        CLIPVisionConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    tokenizer, text = _language()
    vision = CLIPVisionConfig(image_size=28, patch_size=14, projection_dim=16, **_SMALL)
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_id=text.vocab_size - 4,
        vision_feature_layer=-1,
    )  # fmt: skip
    images = CLIPImageProcessorPil(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}
    )
    processor = LlavaProcessor(
        images, tokenizer, patch_size=14, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=template,
    )  # fmt: skip
    return _saved(LlavaForConditionalGeneration, config, processor, folder)


def write_idefics(folder: Path) -> Path:
    """Write an Idefics3 (the family of the first SmolVLM) of 32 x 32 pixels."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import (
        Idefics3ImageProcessorPil,
    )

    tokenizer, text = _language()
    config = Idefics3Config(
        vision_config={"image_size": 32, "patch_size": 8, **_SMALL}, text_config=text,
        image_token_id=text.vocab_size - 4, scale_factor=2,
    )  # fmt: skip
    images = Idefics3ImageProcessorPil(
        do_image_splitting=False, size={"longest_edge": 32}, max_image_size={"longest_edge": 32}
    )
    processor = Idefics3Processor(images, tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    return _saved(Idefics3ForConditionalGeneration, config, processor, folder)


def _language() -> tuple[Any, Any]:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, PreTrainedTokenizerFast

    words = [f"word{i}" for i in range(40)]
    ids = {token: number for number, token in enumerate([*words, *_SPECIAL])}
    inner = Tokenizer(models.WordLevel(ids, unk_token="word0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<eos>", pad_token="<pad>",
        additional_special_tokens=list(_SPECIAL[2:]),
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=len(ids), eos_token_id=ids["<eos>"], pad_token_id=ids["<pad>"],
        bos_token_id=None, **_SMALL,
    )  # fmt: skip
    return tokenizer, text


def _saved(kind: Any, config: Any, processor: Any, folder: Path) -> Path:
    import torch

    torch.manual_seed(0)
    kind(config).eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
