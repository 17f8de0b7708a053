"""Model directories: from a configured name to local files, and what tells their weights apart."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from marc_core.config import PRESETS_DIR
from marc_core.errors import ModelLoadError

Part = Literal["encoder", "student", "speech"]
"""What the model is for: the section of the configuration that names it, and its folder within a
preset; `text.speech_model` for speech."""
_WHOLE_FILE_BYTES = 256 * 1024**2
_SAMPLES, _SAMPLE_BYTES = 64, 64 * 1024
_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "*.model")


NO_STUDENT = "none"
"""The `student.model` of a memory that is searched only."""


def local_directory(part: Part, name: str, revision: str | None, *, download: bool = True) -> Path:
    """Return the directory of a model's files, downloading a hub id when needed and allowed.

    name: `preset:NAME` (its folder of this part), `preset:NAME/FOLDER`, an existing directory, or a
    hub id OWNER/NAME. Raises ModelLoadError with the remedy: reinstall, correct the path, or
    connect.
    """
    if name == NO_STUDENT:
        raise ModelLoadError(
            f"{part}.model is '{NO_STUDENT}': this memory was indexed to be searched, not asked. "
            "`marc index ARCHIVE --preset qwen2.5-vl-3b --only features` with its --memory adds "
            "what a student reads, without a new cut."
        )
    if name.startswith("preset:"):
        return _preset_directory(part, name)
    if Path(name).is_dir():
        return Path(name)
    if Path(name).is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ModelLoadError(
            f"{_setting(part)} must be preset:NAME, an existing directory or a hub id OWNER/NAME. "
            f"Got '{name}'."
        )
    return _hub_directory(part, name, revision, download)


@contextmanager
def without_bar() -> Iterator[None]:
    """Let transformers load a model inside without drawing a bar; bars of downloads stay."""
    from transformers.utils import logging

    before = logging.set_tqdm_hook(
        lambda make, args, settings: make(*args, **settings | {"disable": True})
    )
    try:
        yield
    finally:
        logging.set_tqdm_hook(before)


def weights_digests(directory: Path) -> list[str]:
    """Return a digest of every weights file in `directory`, in order of their names.

    Files up to 256 MiB are hashed whole, larger ones by size, header and 64 samples (a fine-tuned
    copy differs nearly everywhere). Raises ModelLoadError when there is none.
    """
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise ModelLoadError(
            f"A model's directory must hold its weights as *.safetensors. Found none in "
            f"'{directory}'. Save it with save_pretrained."
        )
    return [_digest(path) for path in files]


def _preset_directory(part: Part, name: str) -> Path:
    preset, _, folder = name.removeprefix("preset:").partition("/")
    directory = PRESETS_DIR / preset / (folder or part)
    if (directory / "config.json").is_file():
        return directory
    known = sorted(p.parent.parent.name for p in PRESETS_DIR.glob(f"*/{part}/config.json"))
    presets = ", ".join(f"preset:{k}" for k in known) or "no preset"
    raise ModelLoadError(
        f"{_setting(part)} must be one of {presets}, a directory or a hub id. Got '{name}', which "
        "has no files in this installation."
    )


def _hub_directory(part: Part, name: str, revision: str | None, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    without = "" if part == "speech" else f", or use {_setting(part)}=preset:tiny"
    try:
        found = snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(_FILES),
            local_files_only=not download,
        )
        return Path(found)
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise ModelLoadError(
            f"{_setting(part)} '{name}' is neither in the local hub cache nor downloadable "
            f"({type(error).__name__}). Connect to the hub once, or copy the model's directory "
            f"here and set {_setting(part)} to its path{without}."
        ) from error


def _setting(part: Part) -> str:
    return "text.speech_model" if part == "speech" else f"{part}.model"


def _digest(path: Path) -> str:
    digest, size = hashlib.sha256(), path.stat().st_size
    with path.open("rb") as file:
        if size <= _WHOLE_FILE_BYTES:
            return hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(str(size).encode())
        header_bytes = int.from_bytes(file.read(8), "little")
        digest.update(file.read(header_bytes))
        for i in range(_SAMPLES):
            file.seek(size * i // _SAMPLES)
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
