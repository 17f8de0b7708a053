"""Whisper from a local directory: a tiny one with random weights says something."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.sound_media import write_sounded
from marc_core.config import TextConfig
from marc_core.errors import ConfigError
from marc_core.text.recognizer import load_recognizer
from marc_core.text.whisper import Whisper
from marc_core.types import SOUND_RATE
from marc_core.world.sentences import spoken, spoken_at
from tests.marc_core.text.offline import without_network

LANGUAGES = ("en", "de", "fr")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper of 60,000 weights with a word-level tokenizer, as save_pretrained writes it."""
    return write_whisper(tmp_path_factory.mktemp("whisper"), languages=LANGUAGES)


def write_whisper(folder: Path, *, languages: tuple[str, ...]) -> Path:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        GenerationConfig,
        PreTrainedTokenizerFast,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    words = [f"word{i}" for i in range(40)]
    special = ["<|endoftext|>", "<|startoftranscript|>"]
    special += [f"<|{language}|>" for language in languages]
    special += ["<|transcribe|>", "<|translate|>", "<|notimestamps|>"]
    ids = {token: number for number, token in enumerate([*words, *special])}
    inner = Tokenizer(models.WordLevel(ids, unk_token="word0"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.decoder = decoders.WordPiece(prefix="##")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="<|endoftext|>", additional_special_tokens=special[1:]
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    start, end = ids["<|startoftranscript|>"], ids["<|endoftext|>"]
    shape = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "num_mel_bins": 80}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    widths = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_target_positions": 64}
    tokens = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    config = WhisperConfig(
        vocab_size=len(ids), decoder_start_token_id=start, **shape, **heads, **widths, **tokens
    )
    model = WhisperForConditionalGeneration(config).eval()
    many = {
        "is_multilingual": True,
        "lang_to_id": {f"<|{name}|>": ids[f"<|{name}|>"] for name in languages},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": ids["<|translate|>"]},
    }
    model.generation_config = GenerationConfig(
        decoder_start_token_id=start,
        no_timestamps_token_id=ids["<|notimestamps|>"],
        max_length=12,
        suppress_tokens=[],
        begin_suppress_tokens=[],
        **tokens,
        **(many if languages else {"is_multilingual": False}),
    )
    model.save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    return folder


def test_utterances_become_words_alone_and_together(directory: Path) -> None:
    model = load_recognizer(TextConfig(speech_model=str(directory), speech_language="de"))
    assert isinstance(model, Whisper)
    sounds = [spoken("bakery"), spoken("storm")[:SOUND_RATE]]
    together = model.recognize(sounds)
    assert [heard.language for heard in together] == ["de", "de"]
    assert all(heard.text and "<|" not in heard.text for heard in together)
    for heard, sound in zip(together, sounds, strict=True):
        (alone,) = model.recognize([sound])
        assert (heard.text, heard.language) == (alone.text, alone.language)
        assert heard.confidence == pytest.approx(alone.confidence, rel=1e-4)


def test_confidence_is_the_mean_probability_of_the_words(directory: Path) -> None:
    import torch
    from transformers import AutoTokenizer, WhisperFeatureExtractor, WhisperForConditionalGeneration

    sound = spoken("bakery")
    (heard,) = Whisper(TextConfig(speech_model=str(directory), speech_language="de")).recognize(
        [sound]
    )
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = WhisperForConditionalGeneration.from_pretrained(directory).eval()
    features = WhisperFeatureExtractor.from_pretrained(directory)(
        sound, sampling_rate=SOUND_RATE, return_tensors="pt"
    )
    prompt = ["<|startoftranscript|>", "<|de|>", "<|transcribe|>", "<|notimestamps|>"]
    ids, probabilities = tokenizer.convert_tokens_to_ids(prompt), []
    for word in tokenizer(heard.text, add_special_tokens=False)["input_ids"]:
        with torch.inference_mode():
            logits = model(features["input_features"], decoder_input_ids=torch.tensor([ids])).logits
        probabilities.append(logits[0, -1].softmax(-1)[word].item())
        ids.append(word)
    assert len(probabilities) >= 3
    assert heard.confidence == pytest.approx(np.exp(np.mean(np.log(probabilities))), rel=1e-4)


def test_the_language_is_heard_where_none_is_given(directory: Path) -> None:
    model = Whisper(TextConfig(speech_model=str(directory)))
    (heard,) = model.recognize([np.zeros(SOUND_RATE, np.float32)])
    assert heard.language in LANGUAGES


def test_a_language_that_the_model_does_not_know_is_refused(directory: Path) -> None:
    model = Whisper(TextConfig(speech_model=str(directory), speech_language="xx"))
    with pytest.raises(ConfigError, match="such as de, en, fr"):
        model.recognize([np.zeros(SOUND_RATE, np.float32)])


def test_a_model_of_one_language_is_told_none(tmp_path: Path) -> None:
    model = Whisper(TextConfig(speech_model=str(write_whisper(tmp_path, languages=()))))
    (heard,) = model.recognize([spoken("bakery")])
    assert heard.language is None


def test_the_fingerprint_follows_weights_and_language(directory: Path, tmp_path: Path) -> None:
    import shutil

    def name(folder: Path, **settings: str) -> str:
        return Whisper(TextConfig(speech_model=str(folder), **settings)).fingerprint  # type: ignore[arg-type]

    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    assert name(copy) == name(directory) != name(directory, speech_language="de")
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert name(copy) != name(directory)


@pytest.mark.slow
def test_it_needs_no_network(directory: Path, tmp_path: Path) -> None:
    sound = spoken_at({"bakery": 1.0, "storm": 6.0}, 12.0)
    video = write_sounded(tmp_path / "two.mp4", sound, rate=SOUND_RATE)
    assert without_network(video, str(directory)) == "2"
