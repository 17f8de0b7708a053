"""Configuration of an evaluation: benchmark, variants, prompt, scoring. All of our own choice,
except where a comment names its source."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from marc_core.bounds import number
from marc_core.config import MethodConfig
from marc_core.errors import ConfigError
from marc_core.world.config import WorldConfig

HELD_OUT_SALT = 1000
"""Salt of the evaluation's world; training uses others."""

BENCHMARKS = ("vsi-bench", "videommmu", "mmvu", "mvbench", "tempcompass", "videomme")
"""The paper's six (section 4), in its order."""

Baseline = Literal[
    "none", "uniform_frame", "fewer_frames", "low_resolution", "random_groups", "moviechat",
    "vidcom2",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class VariantConfig:
    """One way of turning a video into visual tokens, and who reads them; a column of the tables."""

    model: Literal["student", "teacher"] = "student"
    """Who answers: the model of the section `student` or of `teacher`."""
    events: Literal["retrieved", "all", "oracle"] = "retrieved"
    """retrieved: the VMR's top `retrieve.k`; in mode tokens as many as the scores say. all: the
    whole video. oracle: the events that hold the evidence, where the benchmark names them (else
    the whole video)."""
    frames: int = number(64, least=1)
    """Frames at most, spread evenly over the chosen events (paper, section 4). Events that are
    merged come as a memory holds them: there the cap counts the groups that stage 1 left."""
    mode: Literal["tokens", "plain", "weighted", "mixed", "none"] = "tokens"
    """How tokens are chosen or merged (`compress.mode`); none gives all tokens to the model (the
    teacher)."""
    budget_tokens: int = number(0, least=0)
    """N_target in visual tokens; 0 = the run's `compress.budget_tokens`, by default one frame's
    (paper, section 4)."""
    unnamed_budget_tokens: int = number(0, least=0)
    """Mode tokens: budget of questions that name no event; 0 = the run's
    `compress.unnamed_budget_tokens`, by default the same as of all others."""
    adaptive: bool = False
    """Make the budget a ceiling that still scenes do not use up (`compress.adaptive`)."""
    baseline: Baseline = "none"
    """Training-free alternative in place of the merge, at equal tokens. uniform_frame: one frame
    for each group of the budget. fewer_frames: two frames for each. low_resolution: all frames,
    smaller. random_groups: seeded choice. moviechat, vidcom2: in the style of these papers."""

    def __post_init__(self) -> None:
        """Raise ConfigError where values contradict each other."""
        if self.baseline != "none" and self.mode == "none":
            raise ConfigError(
                f"A variant with baseline={self.baseline} needs a budget, so its mode cannot be "
                "none: leave mode at its default."
            )

    @property
    def stored(self) -> bool:
        """Whether it reads features as a memory holds them, rather than frames chosen for each
        question."""
        return self.mode != "none" and self.baseline == "none"


TEACHER = VariantConfig(model="teacher", events="all", mode="none")
"""The paper's reference: 64 frames, no compression."""


def held_out_world() -> WorldConfig:
    """Return the world of the default benchmark: videos of 3 - 6 scenes, its own salt."""
    return WorldConfig(salt=HELD_OUT_SALT)


def default_variants() -> dict[str, VariantConfig]:
    """Return the two that the paper's headline compares: 64 frames, and one frame's tokens."""
    return {"teacher": TEACHER, "marc": VariantConfig()}


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(MethodConfig):
    """An evaluation: which questions, which variants, how they are scored, where results go."""

    benchmark: str = "world"
    """world, or one of the paper's six: vsi-bench, videommmu, mmvu, mvbench, tempcompass,
    videomme."""
    data: str = ""
    """The benchmark's question file, or a folder of them. The world needs none."""
    videos: str = ""
    """Folder under which the benchmark's videos lie. The world needs none; with one, its videos
    are written there as mp4 files (those that are missing) and decoded like any other."""
    form: Literal["auto", "video-r1", "official"] = "auto"
    """Form of the question files; auto recognises Video-R1's evaluation files."""
    questions: int = number(300, least=0)
    """Questions of the world; of other benchmarks at most this many, evenly chosen, 0 = all."""
    questions_per_type: int = number(1, least=1)
    """Questions of each type about one world video (our choice: about 22 videos for 300)."""
    only_tasks: tuple[str, ...] = ()
    """Names of the tasks (types of question) to ask; empty means all of them."""
    world: WorldConfig = field(default_factory=held_out_world)
    """The world's videos; its salt is used by no training run."""
    seed: int = number(0, least=0)
    """First seed of the world's videos; seed of random baselines and of the bootstrap."""
    use_memory: bool = False
    """Answer from the memory at `memory.uri` (`marc index` first), not from raw videos."""
    prompt: Literal["auto", "direct", "video-r1"] = "auto"
    """auto: what the student's marc.json says: direct for MARC's own presets and what is trained
    from them, video-r1 (think and answer tags) where it says nothing."""
    scoring: Literal["official", "video-r1"] = "official"
    """Scoring of the headline; both are always computed."""
    variants: dict[str, VariantConfig] = field(default_factory=default_variants)
    """What is compared, by name. jobs/configs/gap.yaml adds those of the compression gap."""
    only_variants: tuple[str, ...] = ()
    """Names of the variants to run; empty means all of `variants`."""
    output: str = "runs/evaluate"
    """Folder of shards, result.json and report.html. A rerun with the same settings resumes."""
    workers: int = number(0, least=0)
    """Actors that hold the student; 0 means one per GPU. Without GPUs: one per CPU for the small
    students of presets, one in all for others."""
    worker_gpus: float = number(1.0, least=0)
    """GPUs of an actor on clusters that have them."""
    batch_size: int = number(16, least=1)
    """Questions given to the student at once (our choice)."""
    by_video: bool = True
    """Draw whole videos in the bootstrap: questions about one video are not independent."""
    resamples: int = number(2000, least=1)
    """Bootstrap draws (our choice)."""
    probe_videos: int = number(4, least=0)
    """Videos whose first question is also timed alone, step by step (prefill, token)."""

    def __post_init__(self) -> None:
        """Raise ConfigError where values contradict each other."""
        self._check_variants()
        if self.benchmark not in ("world", *BENCHMARKS):
            raise ConfigError(
                f"The benchmark must be one of world, {', '.join(BENCHMARKS)}. "
                f"Got '{self.benchmark}'."
            )
        if self.benchmark != "world" and not (self.data and self.videos):
            raise ConfigError(
                f"Benchmark '{self.benchmark}' needs data=FILE and videos=FOLDER. "
                f"Got data='{self.data}', videos='{self.videos}'."
            )

    def _check_variants(self) -> None:
        unknown = [name for name in self.only_variants if name not in self.variants]
        if unknown or not self.variants:
            raise ConfigError(
                "only_variants must name variants of this run: "
                f"{', '.join(self.variants) or 'there are none'}. "
                f"Got {', '.join(unknown) or 'none'}."
            )
        bad = [
            name for name in self.variants if not name.replace("-", "").replace("_", "").isalnum()
        ]
        if bad:
            raise ConfigError(f"Variant names are letters, digits, - and _. Got '{bad[0]}'.")
        if self.use_memory and self.prompt == "video-r1":
            raise ConfigError(
                "With use_memory the prompt is the one of `marc ask`. Got prompt=video-r1: leave "
                "it at auto."
            )
        if self.use_memory:
            for name, variant in self.chosen_variants().items():
                if not variant.stored:
                    raise ConfigError(
                        "With use_memory a variant must merge what the memory holds, so mode=none "
                        f"and baselines cannot be evaluated. Got variant '{name}'; choose with "
                        "only_variants."
                    )

    def chosen_variants(self) -> dict[str, VariantConfig]:
        """Return the variants of this run in order, by name."""
        return {
            n: a
            for n, a in self.variants.items()
            if not self.only_variants or n in self.only_variants
        }
