"""The sections of a configuration: what each room of the method may be told.

Each default stands here and nowhere else; YAML files hold only what differs. A field's comment
gives its meaning, unit and source: a section of the paper (arXiv 2510.07915), or "our choice"
and why; its bounds stand beside it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from marc_core.bounds import number
from marc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class VideoConfig:
    """How videos become frames."""

    backend: Literal["pyav", "decord"] = "pyav"
    """Decoder. pyav is right on every odd file we know; decord is admitted per file by a probe
    and PyAV takes the rest."""
    streams: Literal["first", "all"] = "first"
    """Which video streams of a file are indexed: the one that players show, or each as a video of
    its own (front and rear camera). Further streams that are left out are said."""
    sample_fps: float = number(1.0, above=0)
    """Sampled frames per second of video (paper, section 4: 1 fps)."""
    max_sampled_frames: int = number(7200, least=1)
    """Where more would be sampled of a video in one part, the interval doubles and every second one
    is given up, so that one row stays bounded (our choice: two hours at 1 fps). Shots that would
    be left without a sample have one besides. Parts are so short that none is given up."""
    part_s: float = number(1200.0, least=10)
    """Longer recordings are indexed in parts of about this length in seconds, each by itself, on
    different cores or nodes (our choice: 0.4 GB of samples, and an hour keeps three cores busy);
    also those of more than `max_duration_s`, which is for videos in one part."""
    frame_max_pixels: int = number(
        128 * 28 * 28, least=28 * 28, why="one visual token is 28 x 28 pixels"
    )
    """Pixels of a sampled frame; larger frames are shrunk, aspect ratio kept (Video-R1's
    training setting, 128 tokens of 28 x 28)."""
    max_pixels: int = number(8192 * 4608, least=1)
    """Videos with more pixels a frame are refused as over_limit (our choice: just above 8K)."""
    max_duration_s: float = number(6 * 3600.0, above=0)
    """Videos that show more than this are refused as over_limit; neither gaps in the clock count
    nor what the container promises (our choice)."""
    stall_timeout_s: float = number(30.0, above=0)
    """No frame for this long: the decoder is killed (our choice). What it waits for a core does not
    count."""
    deadline_per_video_s: float = number(4 * 3600.0, above=0)
    """Hard limit on the decoding of one video (our choice)."""
    child_memory_bytes: int = number(4 * 1024**3, least=0)
    """Address space of the decoding child process above its start; 0 means no limit (our
    choice: 8K frames and their references fit)."""
    chunk_frames: int = number(256, least=1)
    """Frames handed over at a time by the decoder (our choice)."""


@dataclass(frozen=True, kw_only=True)
class EventConfig:
    """How a video is cut into events."""

    shot_threshold: float = number(0.5, above=0, most=1)
    """TransNetV2 probability above which a frame belongs to a transition (its authors' value)."""
    shot_precision: Literal["auto", "int8", "bf16", "fp32"] = "auto"
    """auto: int8 on a CPU with fast 8-bit products (VNNI), fp32 on one without bfloat16 products,
    bf16 elsewhere. Each gave identical cuts on every clip measured (docs/events.md)."""
    shot_chunk_frames: int = number(100, least=1)
    """Frames per forward pass, rounded up to a multiple of 50; speed and memory only, the result
    does not depend on it (our choice: 150 is 4 - 8 % slower)."""
    shot_recheck_margin: float = number(0.0, least=0)
    """Windows with a score this close to the threshold are predicted again as TransNetV2's authors
    do, in float32: 0 none, 1 all. 0.04 makes every cut theirs at half the speed; without it cuts
    were the same on every clip measured (our choice; see docs/events.md)."""
    thin_above_fps: float = number(30.0, above=0)
    """Frames a second above which a video is thinned for TransNetV2, which learned at about 25 and
    misses dissolves at more; cuts are found again to the frame (docs/footage.md)."""
    thin_to_fps: float = number(27.0, above=0)
    """Frames a second of a thinned video, about: every round(fps / this)-th frame is given to
    TransNetV2 (our choice: 50 and 60 become every second, 100 and 120 every fourth)."""
    quiet_range_grey: float = number(6.0, least=0, most=255)
    """Windows in which four fifths of the picture's 9 x 16 tiles stay within this many grey levels,
    and no step is large, have no cut and are not looked at; 0: all are. No window with a transition
    of its own was passed by in what was measured (docs/footage.md)."""
    quiet_step_grey: float = number(3.0, least=0, most=255)
    """Grey levels by which a tile has moved from one frame to the next (see `quiet_range_grey`)."""
    quiet_step_share: float = number(0.06, least=0, most=1)
    """Share of tiles that may move in one step of a window that is passed by."""
    change_points: bool = True
    """Split shots that have no cut by change points of the sampled frames' embeddings."""
    change_point_penalty: float = number(3.0, least=0)
    """Penalty of one more change point, in units of the embedding noise (our choice; see
    docs/events.md)."""
    change_point_min_shot_s: float = number(20.0, least=0)
    """Shots shorter than this are never split by content (our choice)."""
    min_event_s: float = number(1.0, least=0)
    """Shorter events are joined to a neighbour (our choice)."""
    max_event_s: float = number(60.0, above=0)
    """Longer events are split every so many seconds from their start (our choice: 30 temporal
    groups at 1 fps)."""

    def stride(self, fps: float | None) -> int:
        """Return how many frames of a video of `fps` (None: unknown) there are to one that is given
        to the shot detector."""
        if fps is None or fps <= self.thin_above_fps:
            return 1
        return max(round(fps / self.thin_to_fps), 1)

    def __post_init__(self) -> None:
        """Raise ConfigError where two values contradict each other."""
        if self.max_event_s < 2 * self.min_event_s:
            raise ConfigError(
                f"events.max_event_s must be at least twice events.min_event_s. "
                f"Got {self.max_event_s} and {self.min_event_s}."
            )


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """What is said, written and shown, as text beside events (docs/footage.md). Made by a pass of
    its own after indexing: a stage that is switched on later adds its texts without a new cut.

    auto: on, unless the file beside the video says that it is synthetic."""

    speech: Literal["auto", "on", "off"] = "auto"
    """Recognise what is said."""
    speech_model: str = "moonshine"
    """`moonshine` (English, comes with the extra `speech`), or a local directory or hub id of the
    Whisper family, for other languages."""
    speech_revision: str | None = None
    """Hub revision; pin it in production."""
    speech_language: str | None = None
    """Language that is spoken, such as "de"; None: Whisper hears it in each utterance."""
    speech_device: str = "auto"
    """Where Whisper runs; auto: cuda where there is one, else cpu. Moonshine runs on a CPU."""
    speech_threshold: float = number(0.5, above=0.15, most=1)
    """Probability above which 32 ms of sound are speech (silero-vad's authors' value)."""
    speech_pause_s: float = number(0.5, above=0, most=10)
    """A pause that ends an utterance (our choice: between sentences, not between words)."""
    speech_max_s: float = number(15.0, least=2, most=29)
    """Utterances that last longer are cut at their quietest moment (our choice: short enough to
    point at a moment; models hear at most 30 s)."""
    speech_batch: int = number(8, least=1)
    """Utterances recognised at a time (our choice: memory, and speed on a GPU)."""
    writing: Literal["auto", "on", "off"] = "auto"
    """Read what is written in the picture."""
    captions: Literal["off", "on"] = "off"
    """Describe each event in words by the student, or another model; off, because it costs more
    than all else (our choice)."""
    caption_model: str = ""
    """Model that captions: like `student.model`; empty means the teacher, which reads frames that
    are not compressed."""
    caption_revision: str | None = None
    """Hub revision of `caption_model`; pin it in production."""
    caption_prompts: tuple[str, ...] = (
        "Describe in one or two sentences what is shown and what happens.",
    )
    """What the model is asked of each event, one by one; the answers are one text (our choice)."""
    caption_frames: int = number(8, least=1)
    """Frames of an event that are shown to it, evenly spread (our choice: 4 temporal groups)."""
    caption_max_tokens: int = number(64, least=1)
    """Tokens of one answer at most (our choice: two sentences)."""
    writing_pictures: int = number(2, least=1, most=16)
    """Pictures of an event that are read; one of events of up to 5 s (our choice)."""
    writing_max_pixels: int = number(1280 * 720, least=320 * 180, most=4096 * 2304)
    """Pixels of a picture that is read; larger ones are shrunk (our choice: letters of 20 lines a
    picture are 20 pixels high)."""
    writing_side_px: int = number(480, least=160, most=2048)
    """Longer side to which a picture is shrunk to find lines; they are read at its own size (our
    choice: docs/footage.md has accuracy and cost)."""
    writing_min_confidence: float = number(0.6, least=0, most=1)
    """Lines that the model is less sure of are left out (our choice: docs/footage.md)."""


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
    batch_size: int = number(32, least=1)
    """Frames or texts per forward pass (our choice)."""


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The vision-language model that answers."""

    model: str = "preset:tiny"
    """`preset:tiny`, a local directory, or a hub id of the Qwen2-VL, 2.5-VL or 3-VL family; `none`
    for a memory that is searched only (memory.store_features=false)."""
    revision: str | None = None
    """Hub revision; pin it in production."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16; on a CPU float32 for checkpoints of up to 300 million parameters."""
    device: str = "auto"
    """auto: cuda where there is one, else cpu."""
    frame_max_pixels: int = number(
        128 * 28 * 28, least=28 * 28, why="one visual token is 28 x 28 pixels"
    )
    """Pixels of a frame given to the vision tower (Video-R1's training setting)."""
    max_frames: int = number(64, least=1)
    """Frames of the teacher, of one event, and of one question's events (paper, section 4), evenly
    spread. A group that stage 1 has merged from several counts as one (`prepare.capped`)."""
    engine: Literal["transformers", "vllm"] = "transformers"
    """What runs the language model. vllm needs the extra `vllm`, and `temporal_positions=grid` in
    mode tokens (docs/models.md)."""
    temporal_positions: Literal["time", "grid"] = "time"
    """Temporal index of a group, for models with absolute time (Qwen2.5-VL): `time` = its own
    seconds from the first group, `grid` = its number x the source interval, a plain shorter video
    (what vLLM can express). Equal for evenly sampled uncompressed video and for one group. In mode
    tokens `grid` is a video of groups of one token, and the events' times are told in words."""
    max_new_tokens: int = number(128, least=1)
    """Tokens generated at most (our choice)."""
    temperature: float = number(0.0, least=0)
    """0 means greedy."""


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The model that answers from all frames without compression, and that training learns from.
    All else is as in `student`."""

    model: str = ""
    """Like `student.model`; empty means the student's own, with its revision."""
    revision: str | None = None
    """Hub revision of `model`; pin it in production."""


@dataclass(frozen=True, kw_only=True)
class CompressConfig:
    """Memory-aware temporal compression (paper, section 3.2)."""

    mode: Literal["tokens", "plain", "weighted", "mixed", "none"] = "tokens"
    """tokens: each event's tokens in a hierarchy, cut at its share of the budget (our choice, and
    the best: docs/compression.md). Whole groups are merged by the others. plain: H = (Ha + Hb) / 2,
    the paper's. weighted: by number of groups merged. mixed: weighted inside events, plain across
    them. none: identity (the teacher)."""
    stored_tokens: int = number(96, least=1)
    """Mode tokens: the most tokens that an event can be cut into; 2 x this - 1 nodes of it are
    stored (our choice: about a frame's tokens of the 3B student, a quarter of stage 1's bytes)."""
    window: int = number(0, least=0)
    """Short-term memory window m of stage 1 in groups; 0 means the whole event (the paper gives
    no value)."""
    event_ratio: float = number(0.25, above=0, most=1)
    """rho: share of an event's groups that stage 1 keeps, at least one (the paper gives no
    value; our choice)."""
    budget_tokens: int = number(0, least=0)
    """N_target in visual tokens; 0 = one frame's tokens (paper, section 4). Where whole groups are
    merged, it holds one group at least."""
    unnamed_budget_tokens: int = number(0, least=0)
    """Mode tokens: budget of questions that name no event, such as "how many scenes ...", and so
    need all of them; 0 = the same as of all others (our choice)."""
    max_budget_tokens: int = number(8192, least=1)
    """Highest budget that a question may ask for (our choice: 64 frames at 128 tokens)."""
    adaptive: bool = False
    """Make `budget_tokens` a ceiling: groups more alike than `adaptive_similarity` are merged
    below it, so that a still scene costs less than an eventful one (our choice)."""
    adaptive_similarity: float = number(0.95, above=0, most=1)
    """Mean patch cosine of neighbours from which on an adaptive budget merges them (our choice:
    neighbouring groups of one unchanged scene lie above it)."""
    restore_norm: bool = False
    """Rescale merged tokens to the mean norm of their sources (our choice, off as in the paper)."""


@dataclass(frozen=True, kw_only=True)
class RetrieveConfig:
    """The Visual Memory Retriever (paper, section 3.1)."""

    k: int = number(3, least=1)
    """Events given to the student (paper, section 4). In mode tokens: where the question names
    some of them."""
    hit_margin: float = number(0.0, least=0, most=2)
    """Events whose cosine lies so close to the best one's count as named by the question (mode
    tokens); 0 = the encoder's own, from its marc.json or from scores of unrelated texts."""
    max_k: int = number(64, least=1)
    """Highest k that a question may ask for (our choice)."""
    hybrid: bool = True
    """Fuse vector and full-text ranks where events have text (our choice)."""
    rrf_k: int = number(60, least=1)
    """Constant of reciprocal rank fusion (Cormack et al. 2009)."""
    bypass_when_fits: bool = True
    """Skip retrieval when one video is asked about and all its events fit k (our choice)."""


@dataclass(frozen=True, kw_only=True)
class PromptConfig:
    """What the student is told in words beside what it sees."""

    text_in_prompt: int = number(0, least=0)
    """Tokens of text of the retrieved events (said, written, captioned, from sidecars) in the
    prompt at most; lines that hold words of the question first. 0: none (our choice: a student
    that was not trained with such text may read it wrongly; docs/footage.md)."""


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """The LanceDB memory."""

    uri: str = "runs/memory"
    """Local folder, or s3://, gs://, az:// address."""
    storage_options: dict[str, str] = field(default_factory=dict)
    """Object store options as LanceDB takes them (endpoint, region, allow_http, ...)."""
    vector_index_rows: int = number(10_000, least=1)
    """Event rows from which on a vector index is built (measured: flat search is as fast below)."""
    nprobes: int = number(200, least=1)
    """Partitions searched (measured at 10^6 rows: recall@3 0.98 and more for queries between the
    clusters, where 50 gave 0.73)."""
    refine_factor: int = number(5, least=1)
    """Candidates re-scored with full vectors, as a multiple of k (without it recall@3 is 0.6)."""
    keep_versions_s: float = number(3600.0, least=0)
    """Old table versions younger than this survive clean-up, for readers still on them (never below
    60 s, whatever is set)."""
    refresh_s: float = number(1.0, least=0)
    """An open memory that is older than this looks for what others have committed before it answers
    (our choice: one listing a second); 0 looks every time."""
    store_features: bool = True
    """Store what the student reads of each event at index time: queries then touch no decoder and
    no vision tower (about 0.05 GB an hour for the 3B student in mode tokens and events of 60 s)."""
    store_groups: bool = False
    """Mode tokens: store the groups of the paper's stage 1 beside the hierarchies (0.15 GB an hour
    more), so that both ways can be asked."""
