"""A model of the Whisper family (transformers): speech in many languages to words.

    sounds -> encoder -> language -> generate -> words
                      `------------------------> decoder over the words -> confidence

Taken from a local directory, or from the hub's cache, which is filled once; afterwards nothing is
fetched. Utterances are at most 30 s long, so each is one window of the model. The encoder, which
costs most, runs once for all three.

Letters: B sounds, T tokens, V the vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from marc_core.config import fingerprint
from marc_core.digest import content_digest
from marc_core.errors import ConfigError, ModelLoadError
from marc_core.models.checkpoints import local_directory, weights_digests, without_bar
from marc_core.text.recognizer import Heard
from marc_core.types import SOUND_RATE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from marc_core.config import TextConfig

_FAMILY = "whisper"
_SETTINGS = ("generation_config.json", "preprocessor_config.json", "tokenizer.json", "vocab.json")
"""Files besides the weights that decide the words."""
_VERSION = 2
"""Counts the changes of what the same model and settings write."""


class Whisper:
    """Whisper, loaded by the first utterance; float32 on a CPU, float16 on a GPU."""

    def __init__(self, config: TextConfig) -> None:
        """Raise ModelLoadError (no such directory, not of the family), ConfigError (language)."""
        from transformers import AutoConfig

        self._directory = local_directory("speech", config.speech_model, config.speech_revision)
        try:
            kind = AutoConfig.from_pretrained(self._directory).model_type
        except (OSError, ValueError, KeyError) as error:
            raise self._unloadable(error) from error
        if kind != _FAMILY:
            raise ModelLoadError(
                f"text.speech_model must be moonshine or of the Whisper family. "
                f"'{self._directory}' is '{kind}'."
            )
        self._language, self._device = config.speech_language, config.speech_device
        settings = [self._directory / name for name in _SETTINGS]
        self.fingerprint = fingerprint(
            ("whisper", _VERSION),
            weights_digests(self._directory),
            [content_digest(path) if path.is_file() else None for path in settings],
            (config.speech_language,),
        )
        self._model: Any = None

    def recognize(self, sounds: Sequence[NDArray[np.float32]]) -> list[Heard]:
        """Return the words of each sound, computed together; confidence: the mean probability
        (geometric) of the tokens that they are made of."""
        import torch

        if self._model is None:
            self._load()
        features = self._features(
            [np.asarray(sound) for sound in sounds],
            sampling_rate=SOUND_RATE,
            return_attention_mask=True,
            return_tensors="pt",
        )
        inputs = features["input_features"].to(self._model.device, self._model.dtype)
        with torch.inference_mode():
            encoded = self._model.get_encoder()(inputs)
            languages = self._languages(encoded)
            told = {"language": languages, "task": "transcribe"} if self._multilingual else {}
            ids_BT = self._model.generate(
                encoder_outputs=encoded,
                attention_mask=features["attention_mask"].to(inputs.device),
                force_unique_generate_call=True,  # else the prompt's tokens are left out
                **told,
            )
            sure = [self._confidence(encoded, ids_BT, row) for row in range(len(ids_BT))]
        texts = self._tokenizer.batch_decode(ids_BT, skip_special_tokens=True)
        return [
            Heard(text=text.strip(), language=language, confidence=confidence)
            for text, language, confidence in zip(
                texts, languages or [None] * len(texts), sure, strict=True
            )
        ]

    def close(self) -> None:
        """Let go of the model."""
        self._model = None

    def _confidence(self, encoded: Any, ids_BT: Any, row: int) -> float | None:
        """Return how sure the model is of a row's words; None where there are none.

        One row at a time: logits of all together would be hundreds of MB.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        ids_T = ids_BT[row]
        is_word_T = ~torch.isin(ids_T[1:], self._special.to(ids_T.device))
        if not is_word_T.any():
            return None
        own = BaseModelOutput(last_hidden_state=encoded[0][row : row + 1])
        logits_TV = self._model(encoder_outputs=own, decoder_input_ids=ids_T[None, :-1]).logits[0]
        log_probs_TV = logits_TV[is_word_T].float().log_softmax(-1)
        return math.exp(log_probs_TV.gather(1, ids_T[1:][is_word_T][:, None]).mean().item())

    def _languages(self, encoded: Any) -> list[str | None] | None:
        """Return each utterance's language: as asked for, or as the model hears it."""
        if not self._multilingual:
            return None
        if self._language is not None:
            return [self._language] * len(encoded[0])
        found = self._model.detect_language(encoder_outputs=encoded)
        tokens = self._tokenizer.convert_ids_to_tokens(found.tolist())
        return [token.strip("<|>") for token in tokens]

    def _load(self) -> None:
        import torch
        from safetensors import SafetensorError
        from transformers import (
            AutoTokenizer,
            WhisperFeatureExtractor,
            WhisperForConditionalGeneration,
        )

        on_gpu = torch.cuda.is_available() if self._device == "auto" else self._device != "cpu"
        device = ("cuda" if on_gpu else "cpu") if self._device == "auto" else self._device
        try:
            with without_bar():
                model: Any = WhisperForConditionalGeneration.from_pretrained(
                    self._directory,
                    dtype=torch.float16 if on_gpu else torch.float32,
                    use_safetensors=True,
                )
            self._features: Any = WhisperFeatureExtractor.from_pretrained(self._directory)
            self._tokenizer: Any = AutoTokenizer.from_pretrained(self._directory)
        except (OSError, ValueError, KeyError, ImportError, SafetensorError) as error:
            raise self._unloadable(error) from error
        self._special = torch.tensor(self._tokenizer.all_special_ids)
        model = model.to(device).eval()
        known = getattr(model.generation_config, "lang_to_id", None) or {}
        self._multilingual = bool(known)
        if self._language is not None and known and f"<|{self._language}|>" not in known:
            raise ConfigError(
                f"text.speech_language must be one that '{self._directory}' knows, such as "
                f"{', '.join(sorted(token.strip('<|>') for token in known)[:8])}. "
                f"Got '{self._language}'."
            )
        self._model = model

    def _unloadable(self, error: Exception) -> ModelLoadError:
        return ModelLoadError(
            f"text.speech_model '{self._directory}' cannot be loaded: {error} Name a directory "
            "that was written by save_pretrained, or a hub id of the Whisper family."
        )
