"""Every configuration dataclass of the method, and the one loader.

Each default stands here and nowhere else; YAML files hold only what differs. A field's comment
gives its meaning, unit and source: a section of the paper (arXiv 2510.07915), or "our choice"
and why. `check` functions hold the ranges, so that a wrong value fails before a cluster starts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from marc_core.errors import ConfigError

PRESETS_DIR = Path(__file__).parent / "presets"


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How videos become frames."""

    backend: Literal["pyav", "decord"] = "pyav"
    """Decoder. pyav is right on every odd file we know; decord is admitted per file by a probe
    and PyAV takes the rest."""
    sample_fps: float = 1.0
    """Sampled frames per second of video (paper, section 4: 1 fps)."""
    max_sampled_frames: int = 7200
    """A longer video is sampled more sparsely, so that one row stays bounded (our choice: two
    hours at 1 fps)."""
    frame_max_pixels: int = 128 * 28 * 28
    """Pixels of a sampled frame; larger frames are shrunk, aspect ratio kept (Video-R1's
    training setting, 128 tokens of 28 x 28)."""
    max_pixels: int = 8192 * 4608
    """Videos with more pixels a frame are refused as over_limit (our choice: just above 8K)."""
    max_duration_s: float = 6 * 3600.0
    """Longer videos are refused as over_limit (our choice)."""
    stall_timeout_s: float = 30.0
    """No frame for this long: the decoder is killed (our choice)."""
    deadline_per_video_s: float = 4 * 3600.0
    """Hard limit on the decoding of one video (our choice)."""
    child_memory_bytes: int = 4 * 1024**3
    """Address space of the decoding child process above its start; 0 means no limit (our
    choice: 8K frames and their references fit)."""
    chunk_frames: int = 256
    """Frames handed over at a time by the decoder (our choice)."""


@dataclass(frozen=True, kw_only=True)
class EventConfig:
    """How a video is cut into events."""

    shot_threshold: float = 0.5
    """TransNetV2 probability above which a frame belongs to a transition (its authors' value)."""
    shot_precision: Literal["auto", "int8", "bf16", "fp32"] = "auto"
    """auto: int8 on a CPU with fast 8-bit products (VNNI), bf16 elsewhere. Each gave identical cuts
    on every clip measured (docs/events.md)."""
    shot_chunk_frames: int = 100
    """Frames per forward pass, rounded up to a multiple of 50; speed and memory only, the result
    does not depend on it (our choice: 150 is 4 - 8 % slower)."""
    shot_recheck_margin: float = 0.0
    """Windows with a score this close to the threshold are predicted again as TransNetV2's authors
    do, in float32: 0 none, 1 all. 0.04 makes every cut theirs at half the speed; without it cuts
    were the same on every clip measured (our choice; see docs/events.md)."""
    change_points: bool = True
    """Split shots that have no cut by change points of the sampled frames' embeddings."""
    change_point_penalty: float = 3.0
    """Penalty of one more change point, in units of the embedding noise (our choice; see
    docs/events.md)."""
    change_point_min_shot_s: float = 20.0
    """Shots shorter than this are never split by content (our choice)."""
    min_event_s: float = 1.0
    """Shorter events are joined to a neighbour (our choice)."""
    max_event_s: float = 60.0
    """Longer events are split evenly (our choice: 30 temporal groups at 1 fps)."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The dual encoder that maps events and questions into one space."""

    model: str = "preset:tiny"
    """`preset:tiny`, a local directory, or a hub id of the CLIP, SigLIP or SigLIP 2 family."""
    revision: str | None = None
    """Hub revision; pin it in production."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on GPU, float32 on CPU."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    batch_size: int = 32
    """Frames or texts per forward pass (our choice)."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The vision-language model that answers. The teacher is the same without compression."""

    model: str = "preset:tiny"
    """`preset:tiny`, a local directory, or a hub id of the Qwen2-VL, 2.5-VL or 3-VL family."""
    revision: str | None = None
    """Hub revision; pin it in production."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 on GPU, float32 on CPU."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    frame_max_pixels: int = 128 * 28 * 28
    """Pixels of a frame given to the vision tower (Video-R1's training setting)."""
    max_frames: int = 64
    """Frames of the teacher and of one question's events (paper, section 4)."""
    position_rule: Literal["max", "hf5"] = "max"
    """Where text positions start after a video: `max` = the authors' rule with which the
    checkpoints were trained; `hf5` = the installed library's, only for equivalence tests."""
    temporal_positions: Literal["time", "grid"] = "time"
    """Temporal index of a group, for models with absolute time (Qwen2.5-VL): `time` = its own
    seconds from the first group, `grid` = its number x the source interval, a plain shorter video
    (what vLLM can express). Equal for evenly sampled uncompressed video and for one group."""
    options_prompt: Literal["letter", "choice"] = "letter"
    """How a question with options is put: `letter` lists them and asks for the letter; `choice`
    asks the question alone and decodes the answer among the options. The tiny preset chooses: its
    four layers never learned to match words with letters."""
    max_new_tokens: int = 128
    """Tokens generated at most (our choice)."""
    temperature: float = 0.0
    """0 means greedy."""


@dataclass(frozen=True, kw_only=True)
class CompressConfig:
    """Memory-aware temporal compression (paper, section 3.2)."""

    mode: Literal["plain", "weighted", "mixed", "none"] = "plain"
    """plain: H = (Ha + Hb) / 2, the paper's. weighted: by number of groups merged. mixed:
    weighted inside events, plain across them. none: identity (the teacher)."""
    window: int = 0
    """Short-term memory window m of stage 1 in groups; 0 means the whole event (the paper gives
    no value)."""
    event_ratio: float = 0.25
    """rho: share of an event's groups that stage 1 keeps, at least one (the paper gives no
    value; our choice)."""
    budget_groups: int = 1
    """N_target in temporal groups: 1 = one frame's tokens (paper, section 4)."""
    adaptive: bool = False
    """Make `budget_groups` a ceiling: groups more alike than `adaptive_similarity` are merged
    below it, so that a still scene costs less than an eventful one (our choice)."""
    adaptive_similarity: float = 0.95
    """Mean patch cosine of neighbours from which on an adaptive budget merges them (our choice:
    neighbouring groups of one unchanged scene lie above it)."""
    restore_norm: bool = False
    """Rescale merged tokens to the mean norm of their sources (our choice, off as in the paper)."""


@dataclass(frozen=True, kw_only=True)
class RetrieveConfig:
    """The Visual Memory Retriever (paper, section 3.1)."""

    k: int = 3
    """Events given to the student (paper, section 4)."""
    hybrid: bool = True
    """Fuse vector and full-text ranks where events have text (our choice)."""
    rrf_k: int = 60
    """Constant of reciprocal rank fusion (Cormack et al. 2009)."""
    bypass_when_fits: bool = True
    """Skip retrieval when one video is asked about and all its events fit k (our choice)."""


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The LanceDB memory."""

    uri: str = "runs/memory"
    """Local folder, or s3://, gs://, az:// address."""
    storage_options: dict[str, str] = field(default_factory=dict)
    """Object store options as LanceDB takes them (endpoint, region, allow_http, ...)."""
    vector_index_rows: int = 10_000
    """Event rows from which on a vector index is built (measured: flat search is as fast below)."""
    nprobes: int = 200
    """Partitions searched (measured at 10^6 rows: recall@3 0.98 and more for queries between the
    clusters, where 50 gave 0.73)."""
    refine_factor: int = 5
    """Candidates re-scored with full vectors, as a multiple of k (without it recall@3 is 0.6)."""
    keep_versions_s: float = 3600.0
    """Old table versions younger than this survive clean-up, for readers still on them (never below
    60 s, whatever is set)."""
    store_features: bool = True
    """Store the student's stage-1 features at index time: queries then touch no decoder and no
    vision tower (about 0.6 GB an hour for the 3B student, less by event_ratio)."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """All of the method: what index, search, ask, evaluation, training and serving share."""

    video: VideoConfig = field(default_factory=VideoConfig)
    events: EventConfig = field(default_factory=EventConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    student: StudentConfig = field(default_factory=StudentConfig)
    compress: CompressConfig = field(default_factory=CompressConfig)
    retrieve: RetrieveConfig = field(default_factory=RetrieveConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    archive_options: dict[str, str] = field(default_factory=dict)
    """Object store options of the archive (endpoint_override, region, scheme, ...)."""


@dataclass(frozen=True, kw_only=True)
class IndexConfig(MethodConfig):
    """An indexing job: an archive's way into the memory."""

    archive: tuple[str, ...] = ()
    """Folders, files or object-store prefixes."""
    patterns: tuple[str, ...] = (
        "*.mp4", "*.m4v", "*.mov", "*.mkv", "*.webm", "*.avi", "*.mpg", "*.mpeg", "*.ts",
        "*.m2ts", "*.mts", "*.flv", "*.wmv", "*.3gp", "*.ogv", "*.gif",
    )  # fmt: skip
    """File names taken from folders, case-insensitive. A file named itself is always taken."""
    max_failed_fraction: float = 0.5
    """Share of failed videos above which the job's exit code is not zero (our choice)."""
    max_attempts: int = 3
    """Failed attempts after which a video that kills or stalls the decoder is quarantined."""
    retry_failed: bool = False
    """Try videos again that failed for a reason of their own (unreadable, over_limit)."""
    decode_workers: int = 0
    """Decode actors; 0 means one per CPU of the cluster left beside the encoder."""
    decode_cpus: float = 0.8
    """CPUs of a decode actor; below 1, so that encoder and writer find a slot (our choice)."""
    encode_workers: int = 0
    """Encoder actors; 0 means one per GPU, or one when there is none."""
    encode_gpus: float = 1.0
    """GPUs of an encoder actor on clusters that have them."""
    write_videos: int = 4
    """Videos written to the memory in one commit; what a killed job has to repeat (our choice)."""


@dataclass(frozen=True, kw_only=True)
class AskConfig(MethodConfig):
    """A question to a memory."""

    question: str = ""
    """The question, in the language of the student."""
    options: tuple[str, ...] = ()
    """Options of a multiple-choice question, in order A, B, ..."""
    only_video: str | None = None
    """Ask about one video only (video_id or uri)."""
    camera: str | None = None
    """Only events of this camera."""
    tags: tuple[str, ...] = ()
    """Only events that carry all of these tags."""
    start_s: float | None = None
    """Only events that end after this second of their video."""
    end_s: float | None = None
    """Only events that start before this second of their video."""


C = TypeVar("C")


def load_config(
    cls: type[C],
    *,
    preset: str | None = None,
    stored: str | None = None,
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> C:
    """Return a checked `cls`: defaults, preset, `stored`, YAML files, `key=value`, in this order.

    `stored` is the YAML of an earlier run (`config_to_yaml`), of which only the method's own
    sections (fields of MethodConfig) are taken. For AskConfig, `files` may hold what only
    IndexConfig knows; it is left out.

    Raises ConfigError for unknown keys, wrong types, values out of range and missing files; the
    message names the rule, the value received and the remedy.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    layers: list[Any] = [OmegaConf.structured(cls)]
    try:
        if preset is not None:
            layers.append(OmegaConf.load(_preset_file(preset)))
        if stored is not None:
            sections = [f.name for f in dataclasses.fields(MethodConfig)]
            earlier: Any = OmegaConf.create(stored)
            layers.append({key: earlier[key] for key in sections if key in earlier})
        for file in files:
            layers.append(_read_file(file, without=_ignored_in_files(cls)))
        layers.append(OmegaConf.from_dotlist(_dotlist(overrides)))
        config = OmegaConf.to_object(OmegaConf.merge(*layers))
    except (OmegaConfBaseException, YAMLError) as error:
        first = str(error).splitlines()[0]
        key = getattr(error, "full_key", None)
        where = f" at '{key}'" if key else ""
        raise ConfigError(
            f"Configuration error{where}: {first}. `--dry-run` prints every known key."
        ) from error
    assert isinstance(config, cls)
    check_config(config)
    return config


def _read_file(file: str | Path, *, without: set[str]) -> Any:
    from omegaconf import DictConfig, OmegaConf
    from yaml import YAMLError

    try:
        layer = OmegaConf.load(file)
    except FileNotFoundError:
        raise ConfigError(f"Configuration file '{file}' does not exist.") from None
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"Configuration file '{file}' cannot be read: {reason}") from error
    if not isinstance(layer, DictConfig):
        raise ConfigError(f"Configuration file '{file}' must hold `key: value` lines.")
    for key in without:
        layer.pop(key, None)
    return layer


def _ignored_in_files(cls: type[Any]) -> set[str]:
    """A question may be asked with the file that the memory was indexed with."""
    if cls is not AskConfig:
        return set()
    index, ask = ({f.name for f in dataclasses.fields(c)} for c in (IndexConfig, AskConfig))
    return index - ask


def _preset_file(preset: str) -> Path:
    path = PRESETS_DIR / preset / "preset.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.parent.name for p in PRESETS_DIR.glob("*/preset.yaml")))
        raise ConfigError(f"Preset must be one of: {known}. Got '{preset}'.")
    return path


def _dotlist(overrides: Sequence[str]) -> list[str]:
    for item in overrides:
        if "=" not in item:
            raise ConfigError(f"Overrides are written key=value. Got '{item}'.")
    return list(overrides)


_POSITIVE = {
    "sample_fps", "max_sampled_frames", "frame_max_pixels", "max_pixels", "max_duration_s",
    "stall_timeout_s", "deadline_per_video_s", "chunk_frames", "shot_chunk_frames",
    "max_event_s", "batch_size", "max_frames", "max_new_tokens", "k", "rrf_k", "nprobes",
    "refine_factor", "max_attempts", "decode_cpus", "write_videos", "budget_groups",
    "vector_index_rows",
}  # fmt: skip
_NOT_NEGATIVE = {
    "shot_recheck_margin",
    "child_memory_bytes", "change_point_penalty", "change_point_min_shot_s", "min_event_s",
    "temperature", "window", "keep_versions_s", "decode_workers", "encode_workers", "encode_gpus",
}  # fmt: skip
_FRACTION = {"adaptive_similarity", "shot_threshold", "max_failed_fraction", "event_ratio"}


def check_config(config: Any, prefix: str = "") -> None:
    """Raise ConfigError for the first value outside its range, in `config` and all below it."""
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            check_config(value, f"{name}.")
        elif f.name in _POSITIVE and not value > 0:
            raise ConfigError(f"{name} must be above 0. Got {value}.")
        elif f.name in _NOT_NEGATIVE and not value >= 0:
            raise ConfigError(f"{name} must not be negative. Got {value}.")
        elif f.name in _FRACTION and not 0 < value <= 1:
            raise ConfigError(f"{name} must be above 0 and at most 1. Got {value}.")
    if isinstance(config, EventConfig) and config.max_event_s < 2 * config.min_event_s:
        raise ConfigError(
            f"{prefix}max_event_s must be at least twice min_event_s. "
            f"Got {config.max_event_s} and {config.min_event_s}."
        )


def config_to_yaml(config: Any) -> str:
    """Return the resolved configuration as YAML, loadable by `load_config`."""
    from omegaconf import OmegaConf

    return str(OmegaConf.to_yaml(OmegaConf.structured(config)))


def fingerprint(*parts: Any) -> str:
    """Return 12 hex digits that change when any of the dataclasses or values changes."""
    plain = [dataclasses.asdict(p) if dataclasses.is_dataclass(p) else p for p in parts]  # type: ignore[arg-type]
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
