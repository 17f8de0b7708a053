"""Small tokenizers for the tiny preset: known words are one token, unknown words are spelled.

WordPiece over whole words plus single characters: greedy longest match takes a known word whole
and spells any other, so nothing a user types is lost. Case is kept (option letters differ from
the article "a"); white space is not.
"""

from __future__ import annotations

import string
from collections.abc import Iterable
from typing import Any

from transformers import PreTrainedTokenizerFast

VISION_TOKENS = (
    "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>",
    "<|video_pad|>",
)  # fmt: skip
"""Qwen2.5-VL's own names, so that its prompt template is this tokenizer's too."""
ANSWER_TOKENS = ("<think>", "</think>", "<answer>", "</answer>")
"""Tags of the answer format (Video-R1's prompt); ordinary tokens, kept when decoding."""
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""Qwen2.5-VL's layout without its default system message."""


def build_student_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerFast:
    """Return a tokenizer with Qwen2.5-VL's special tokens and chat template."""
    specials = ["<|endoftext|>", "<unk>", *VISION_TOKENS]
    core = _word_tokenizer(words, specials=specials, plain=ANSWER_TOKENS)
    tokenizer = _fast(
        tokenizer_object=core,
        **_names(unk="<unk>", pad="<|endoftext|>", eos="<|im_end|>"),
        extra_special_tokens=[t for t in VISION_TOKENS if t != "<|im_end|>"],
        padding_side="left",
        model_max_length=4096,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def build_encoder_tokenizer(words: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """Return a lower-casing tokenizer that brackets a text as CLIP's text tower expects it."""
    from tokenizers import processors

    core = _word_tokenizer(
        (w.lower() for w in words), specials=["<pad>", "<unk>", "<bos>", "<eos>"], lower=True
    )
    ids = {t: core.token_to_id(t) for t in ("<bos>", "<eos>")}
    core.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=list(ids.items())
    )
    return _fast(
        tokenizer_object=core,
        **_names(unk="<unk>", pad="<pad>", bos="<bos>", eos="<eos>"),
        padding_side="right",
        model_max_length=max_length,
    )


def _fast(**arguments: Any) -> PreTrainedTokenizerFast:
    make: Any = PreTrainedTokenizerFast
    tokenizer: PreTrainedTokenizerFast = make(**arguments)
    return tokenizer


def _names(**tokens: str) -> dict[str, Any]:
    """Return the tokenizer arguments `unk_token`, `pad_token`, ..."""
    return {f"{name}_token": token for name, token in tokens.items()}


def _word_tokenizer(
    words: Iterable[str], *, specials: list[str], plain: Iterable[str] = (), lower: bool = False
) -> Any:
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers

    vocabulary = _vocabulary(words, specials, plain)
    core = Tokenizer(
        models.WordPiece(vocabulary, max_input_chars_per_word=100, **_names(unk="<unk>"))
    )
    steps: list[Any] = [normalizers.NFKC()]
    if lower:
        steps.append(normalizers.Lowercase())
    core.normalizer = normalizers.Sequence(steps)
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation("isolated")]
    )
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    core.add_special_tokens([AddedToken(t, special=True, normalized=False) for t in specials])
    core.add_tokens([AddedToken(t, special=False, normalized=False) for t in plain])
    return core


def _vocabulary(
    words: Iterable[str], specials: Iterable[str], plain: Iterable[str]
) -> dict[str, int]:
    """Return token -> id: specials, characters, their continuations, then sorted words."""
    characters = string.ascii_letters + string.digits + string.punctuation
    spelled = [*characters, *(f"##{c}" for c in characters)]
    ordered = [*specials, *plain, *spelled, *sorted(set(words))]
    return {token: i for i, token in enumerate(dict.fromkeys(ordered))}
