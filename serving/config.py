"""What a deployment of serving fixes.

Defaults stand here and nowhere else; `serving/serve.yaml` and `marc serve key=value` name what
differs. What the method fixes (models, k, budget) comes from the memory, as for `marc ask`;
`settings` changes it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from marc_core.bounds import number
from marc_core.config import AnswerConfig, load_config
from marc_core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ReplicaConfig:
    """One deployment: its replicas, what each takes, and how many requests it lets wait."""

    min_replicas: int = number(1, least=0)
    """Replicas at least; 0 lets it go to none, and the first request then waits for one."""
    max_replicas: int = number(1, least=1)
    """Replicas at most."""
    target_ongoing: float = number(4.0, above=0)
    """Requests under way a replica that autoscaling aims at."""
    upscale_delay_s: float = number(10.0, least=0)
    """Seconds of load before replicas are added (our choice: a burst of seconds needs none)."""
    downscale_delay_s: float = number(120.0, least=0)
    """Seconds without load before replicas go (our choice)."""
    max_ongoing: int = number(8, least=1)
    """Requests at once in one replica."""
    max_queued: int = number(32, least=1)
    """Requests that wait for a replica; more get a 503 at once."""
    num_cpus: float = number(0.2, least=0)
    """CPUs of a replica in Ray's books; fractions, so that an index job fits beside it."""
    num_gpus: float = number(0.0, least=0)
    """GPUs of a replica."""
    drain_s: float = number(30.0, least=0)
    """Seconds that a replica which is to go has for what is under way."""

    def __post_init__(self) -> None:
        """Raise ConfigError where the two numbers of replicas contradict each other."""
        if self.max_replicas < self.min_replicas:
            raise ConfigError(
                f"max_replicas must be at least min_replicas, {self.min_replicas}. "
                f"Got {self.max_replicas}."
            )


# What waits for a place in a replica is offered to it again from time to time; what waits inside
# one is worked on at once. So replicas take several batches; what is too much is refused before.


def _gateway() -> ReplicaConfig:
    return ReplicaConfig(num_cpus=0.1, max_ongoing=1024, max_queued=1024, target_ongoing=64.0)


def _retriever() -> ReplicaConfig:
    return ReplicaConfig(max_ongoing=96, max_queued=64, target_ongoing=8.0)


def _student() -> ReplicaConfig:
    return ReplicaConfig(num_cpus=0.3, max_ongoing=64, max_queued=32, target_ongoing=12.0)


@dataclass(frozen=True, kw_only=True)
class LimitConfig:
    """What one request, and one caller, may take."""

    deadline_s: float = number(60.0, above=0)
    """From a question's arrival to its last token; then a 504 (our choice)."""
    search_deadline_s: float = number(20.0, above=0)
    """The same for everything else that asks the memory."""
    body_bytes: int = number(8_000_000, least=1000)
    """Body of any request but an upload (our choice: an example image of 4.5 MB in base64)."""
    body_stall_s: float = number(20.0, above=0)
    """Without a byte of a body for so long, the request ends (408)."""
    body_deadline_s: float = number(60.0, above=0)
    """From the first to the last byte of a body, uploads aside; then a 408 (our choice: who sends a
    byte now and then holds a place for no longer)."""
    reader_stall_s: float = number(60.0, above=0)
    """A response that nobody takes anything of for so long is given up (our choice)."""
    requests_per_minute: int = number(600, least=0)
    """Of one key over all gateways, unless the key says otherwise; 0: no limit."""
    concurrent_requests: int = number(64, least=0)
    """Of one key at once over all gateways, unless the key says otherwise; 0: no limit."""
    retry_after_s: int = number(1, least=1)
    """What Retry-After says of an overloaded deployment."""


@dataclass(frozen=True, kw_only=True)
class UploadConfig:
    """Uploads, and addresses that may be registered. The indexer takes one job at a time."""

    folder: str = ""
    """Where uploads are kept and their queue is written, on a disk that every node sees. Empty: no
    uploads, no registrations."""
    roots: tuple[str, ...] = ()
    """Folders and bucket prefixes below which addresses may be registered; none by default."""
    max_bytes: int = number(4 * 1024**3, least=1)
    """Of one file (our choice)."""
    total_bytes: int = number(64 * 1024**3, least=1)
    """Of all uploaded files together, those that are coming in too; more get a 507 (our choice)."""
    max_waiting: int = number(100, least=1)
    """Jobs that wait, uploads that are coming in among them; more get a 503 (our choice)."""
    deadline_s: float = number(4 * 3600.0, above=0)
    """From an upload's first to its last byte; then a 408 (our choice: 4 GiB at 300 KB/s)."""
    num_cpus: float = number(0.0, least=0)
    """CPUs of the process that hands jobs to the indexing pipeline; the pipeline's own actors ask
    for theirs."""


@dataclass(frozen=True, kw_only=True)
class MediaConfig:
    """How videos reach browsers."""

    cache_folder: str = ""
    """Where copies for browsers are kept; empty: a temporary folder of the replica's own."""
    cache_bytes: int = number(8 * 1024**3, least=0)
    """Of all copies; the least recently played go first (our choice)."""
    keep_days: float = number(30.0, least=0)
    """A copy that was not played for so long goes (our choice); 0: never."""
    convert: bool = True
    """Remux or transcode what browsers do not play; else such videos are sent as they are."""
    convert_deadline_s: float = number(600.0, above=0)
    """Of one conversion (our choice)."""
    conversions: int = number(1, least=1)
    """At once in a gateway replica; more get a 503."""
    chunk_bytes: int = number(262_144, least=1024)
    """Bytes sent at a time (our choice)."""


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    """What goes by itself: first what is too old, then the oldest of what is too much.

    A video goes with all that is of it, its uploaded file and its copies; a registered file stays.
    """

    every_s: float = number(3600.0, above=0)
    """Between two collections of the indexer (our choice)."""
    memory_days: float = number(0.0, least=0, most=36_500)
    """Days that a video is kept since it was indexed, a hundred years at most; 0: for good."""
    memory_bytes: int = number(0, least=0)
    """Bytes of all videos' features and vectors together; 0: no limit."""
    uploads_days: float = number(0.0, least=0, most=36_500)
    """Days that an upload is kept, with its video, a hundred years at most; 0: for good."""
    uploads_bytes: int = number(0, least=0)
    """Bytes of all uploads together, from which on the oldest go instead of new ones being refused
    at `uploads.total_bytes`; 0: none goes."""

    @property
    def is_limited(self) -> bool:
        """Whether anything goes by itself."""
        kept = (self.memory_days, self.memory_bytes, self.uploads_days, self.uploads_bytes)
        return any(kept)


@dataclass(frozen=True, kw_only=True)
class TraceConfig:
    """OpenTelemetry traces, one a request; off by default."""

    endpoint: str = ""
    """Where spans are sent, as OTLP over HTTP: http://collector:4318/v1/traces. Empty: no traces.
    Headers such as a token come from OTEL_EXPORTER_OTLP_HEADERS."""
    sample: float = number(1.0, least=0, most=1)
    """Share of requests that are traced, where the caller's traceparent does not decide it."""
    text: bool = False
    """Put questions and searches into spans as they were asked."""


@dataclass(frozen=True, kw_only=True)
class WeightsConfig:
    """The student's checkpoint, which `marc reload` exchanges while it serves."""

    file: str = ""
    """File that names it, on a disk that every node sees. Empty: the one of the memory's
    configuration, for good."""
    look_s: float = number(2.0, above=0)
    """Between two looks of a replica at the file (our choice)."""
    drain_s: float = number(30.0, least=0)
    """What answers under way have to end on the old weights; where they take longer, the exchange
    is tried again at the next look (our choice)."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """A deployment of serving."""

    memory: str = "runs/memory"
    """Folder or bucket address of the memory."""
    preset: str | None = None
    """Models; None takes those that the memory was indexed with."""
    settings: tuple[str, ...] = ()
    """key=value of the method's configuration, such as retrieve.k=5 or student.device=cuda."""
    files: tuple[str, ...] = ()
    """YAML files of the method's configuration, such as a bucket's credentials."""
    model: str = "marc"
    """The name that clients give as `model`."""
    host: str = "127.0.0.1"
    """Address that the server binds to."""
    port: int = number(8000, least=1, most=65535)
    """Port that it binds to."""
    keys: str = ""
    """File of API keys (`marc keys create`). Empty: everybody may do everything, which is refused
    on any address but loopback."""
    gateway: ReplicaConfig = field(default_factory=_gateway)
    """HTTP: checks, limits, the shape of answers. No model, no memory."""
    retriever: ReplicaConfig = field(default_factory=_retriever)
    """The memory, the text encoder, the cut to a budget. No language model."""
    student: ReplicaConfig = field(default_factory=_student)
    """The language model. No memory."""
    limits: LimitConfig = field(default_factory=LimitConfig)
    """What one request, and one caller, may take."""
    uploads: UploadConfig = field(default_factory=UploadConfig)
    """Uploads and registered addresses."""
    media: MediaConfig = field(default_factory=MediaConfig)
    """How videos reach browsers."""
    traces: TraceConfig = field(default_factory=TraceConfig)
    """OpenTelemetry traces."""
    retention: RetentionConfig = field(default_factory=RetentionConfig)
    """What goes by itself."""
    weights: WeightsConfig = field(default_factory=WeightsConfig)
    """The student's checkpoint, exchanged while it serves."""
    answer_from_frames: bool = False
    """Where features are missing, decode and encode at query time in the retriever instead of
    answering 409: needs the vision tower's memory there."""

    def check_retention(self) -> None:
        """Raise ConfigError where something should go and nobody is there to take it away."""
        if self.retention.is_limited and not self.uploads.folder:
            raise ConfigError(
                "retention.* is the indexer's work, and there is none without uploads.folder. Set "
                "it, or run `marc gc` from time to time."
            )

    @property
    def loopback(self) -> bool:
        """Whether only this machine reaches the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Return whether a bind address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def load_serve_config(
    given: Mapping[str, Any] | None = None,
    *,
    files: Sequence[str | Path] = (),
    overrides: Sequence[str] = (),
) -> ServeConfig:
    """Return a checked ServeConfig of YAML files, of plain values (a deploy file's `args`) and of
    key=value. Raises ConfigError, which names unknown keys."""
    config = load_config(ServeConfig, files=files, given=given, overrides=overrides)
    check_anonymous(config, config.host)
    return config


def method_of(config: ServeConfig) -> AnswerConfig:
    """Return the method's configuration: what the memory was indexed with, and what `config`
    changes. Raises MemoryStoreError, ConfigError."""
    from marc_core.session import open_session

    return open_session(
        config.memory, preset=config.preset, files=config.files, overrides=config.settings
    ).config


def check_anonymous(config: ServeConfig, host: str) -> None:
    """Raise ConfigError where others than this machine would be answered without a key."""
    if not config.keys and not is_loopback(host):
        raise ConfigError(
            f"Binding to '{host}' without API keys would let everybody who reaches this machine "
            "read, upload and delete. Make a key (`marc keys create --keys runs/keys.json NAME`) "
            "and set keys=runs/keys.json, or bind to 127.0.0.1."
        )
