"""Configuration of a C-GRPO job: the method, the mathematics, and who runs where.

Everything here that `marc_core` does not know: processes, their resources, and what is written.
All values are our choice; the mathematics' are in `marc_core.rl.config`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from jobs.training.trackers import TrackerName
from marc_core.bounds import number
from marc_core.config import MethodConfig, StudentConfig
from marc_core.errors import ConfigError
from marc_core.rl.config import CGrpoConfig


@dataclass(frozen=True, kw_only=True)
class LearnerConfig:
    """The Ray Train workers that update the student; there are `num_workers` of them."""

    cpus: float = number(1.0, above=0)
    """CPUs of a worker, as Ray counts them; below 1 lets several processes share a core. With
    use_gpu a worker has one GPU besides."""
    sharded: bool = False
    """Spread weights, gradients and optimiser over all workers (FSDP2), where a copy on each (DDP)
    does not fit; needs optimizer.kind=adamw."""
    lora_rank: int = number(0, least=0)
    """Rank of LoRA adapters on the language model's matrices; 0 trains all weights. Needs
    optimizer.kind=adamw and the extra `lora`."""
    lora_alpha: float = number(32.0, above=0)
    """LoRA's scale is this by the rank."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more time."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """A pool of actors, each with a model of its own."""

    actors: int = number(1, least=0)
    """Actors of the pool."""
    cpus: float = number(1.0, least=0)
    """CPUs of an actor, as Ray counts them."""
    gpus: float = number(0.0, least=0)
    """GPUs of an actor; 0.5 lets two share one, 0 computes on CPUs."""
    questions_a_call: int = number(8, least=1)
    """Questions that an actor takes at once: one prefill."""
    calls: int = number(2, least=1)
    """Calls that an actor has in hand; the others wait in the pool's queue."""


@dataclass(frozen=True, kw_only=True)
class CGrpoJobConfig(CGrpoConfig, MethodConfig):
    """C-GRPO on Ray: a student on compressed input learns to answer as its full-token teacher."""

    output: str = "runs/cgrpo"
    """Folder of curves, samples, teacher answers, the report and the trained student, on the node
    that starts the run. The same folder continues an interrupted run."""
    save_every: int = number(20, least=1)
    """Steps between checkpoints: what a killed worker costs at most."""
    log_every: int = number(1, least=1)
    """Steps between points of the curve."""
    train_set: str = ""
    """Folder or bucket address of a training set: Parquet rows of
    `marc_core.rl.samples.TrainSample`, with what the teacher reads in the column `teacher`."""
    storage_options: dict[str, str] = field(default_factory=dict)
    """Options of the object store of `train_set`, `checkpoints` and `teacher_cache`
    (endpoint_override, region, scheme, ...)."""
    checkpoints: str = ""
    """Folder or bucket address of checkpoints, which every node must reach; empty means below
    `output`, for a single machine or a shared disk."""
    teacher_cache: str = ""
    """Folder or bucket address of the teacher's answers, shared by runs with the same teacher;
    empty means below `output`."""
    learner: LearnerConfig = field(default_factory=LearnerConfig)
    """Who updates the student."""
    teacher_pool: PoolConfig = field(default_factory=PoolConfig)
    """Who asks the full-token teacher (`teacher.model`); 0 actors: nobody, what the cache holds
    counts."""
    rollout_pool: PoolConfig = field(default_factory=PoolConfig)
    """Who draws the student's answers."""
    teacher_ahead: int = number(4, least=1)
    """Teacher calls that may be under way or done before a step takes them: the bound of the
    first queue."""
    call_timeout_s: float = number(1800.0, above=0)
    """Seconds that a pool may take for one call, the restart of a dead actor included; then the
    run ends and says who did not answer."""
    sample_questions: int = number(2, least=0)
    """Questions of each logged step whose answers are kept in samples.jsonl."""
    trackers: tuple[TrackerName, ...] = ("tensorboard",)
    """Where the curve goes besides curves.jsonl: tensorboard, wandb, mlflow. The last two need the
    extra of their name and read addresses and keys from their own environment variables."""
    tracker_project: str = "marc"
    """Project (W&B) or experiment (MLflow) of the run."""

    evaluate_questions: int = number(0, least=0)
    """Held-out questions of the world on which the trained student is compared with the one that
    it started from, at the end; 0: none, as for students of real footage."""

    def __post_init__(self) -> None:
        """Raise ConfigError where two values contradict each other."""
        super().__post_init__()
        object.__setattr__(self, "trackers", tuple(self.trackers))
        if self.num_workers < 1:
            raise ConfigError(
                "num_workers must be at least 1: C-GRPO trains on Ray Train. Got 0; one worker on "
                "a laptop is num_workers=1."
            )
        if self.rollout.questions < self.num_workers:
            raise ConfigError(
                "rollout.questions must be at least num_workers, so that every worker has one. "
                f"Got {self.rollout.questions} < {self.num_workers}."
            )
        if self.rollout.budgets != (0,):
            raise ConfigError(
                "rollout.budgets must stay [0]: the rows of a training set are cut to their "
                f"budgets already. Got {list(self.rollout.budgets)}; set budgets where the "
                "training set is written."
            )
        own = self.learner
        if (own.sharded or own.lora_rank) and self.optimizer.kind != "adamw":
            raise ConfigError(
                "learner.sharded and learner.lora_rank need optimizer.kind=adamw: Muon works on "
                f"whole matrices. Got {self.optimizer.kind}."
            )
        if own.sharded and own.lora_rank:
            raise ConfigError(
                "learner.sharded and learner.lora_rank exclude each other: what LoRA trains fits "
                f"every worker. Got lora_rank={own.lora_rank} and sharded=true."
            )
        if self.loss.distillation_weight and self.student.engine != "transformers":
            raise ConfigError(
                "loss.distillation_weight needs student.engine=transformers, whose model scores "
                f"answers. Got {self.student.engine}."
            )
        if self.rollout_pool.actors < 1:
            raise ConfigError("rollout_pool.actors must be at least 1. Got 0.")

    @property
    def rollout_model(self) -> StudentConfig:
        """The student as rollout actors load it."""
        return _placed(self.student, self.rollout_pool)

    @property
    def teacher_reader(self) -> StudentConfig:
        """The teacher as its actors load it."""
        return _placed(self.teacher_model(), self.teacher_pool)

    @property
    def learner_model(self) -> StudentConfig:
        """The student as workers load it: what is updated in float32, what LoRA freezes in its own
        precision."""
        device = "cuda" if self.use_gpu else "cpu"
        dtype = self.student.dtype if self.learner.lora_rank else "float32"
        return dataclasses.replace(self.student, dtype=dtype, device=device)

    @property
    def checkpoint_place(self) -> str:
        """Folder or address of checkpoints."""
        return self.checkpoints or f"{self.output}/checkpoints"

    @property
    def cache_place(self) -> str:
        """Folder or address of the teacher's answers."""
        return self.teacher_cache or f"{self.output}/teacher"


def _placed(model: StudentConfig, pool: PoolConfig) -> StudentConfig:
    """Return the model with the device that an actor of this pool has."""
    return dataclasses.replace(model, device="cuda" if pool.gpus else "cpu")
