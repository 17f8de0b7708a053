"""What each Ray Train worker of a C-GRPO run does.

    restore -> rank 0: begin -> for each step: batch (wait) -> train_step (all workers together)
                                 -> rank 0: publish weights and metrics -> checkpoint now and then

The state of a run is step, weights, optimiser, position in the order of questions, and random
numbers; learning rates follow from the step, the version of weights is the step, and what the
teacher said is kept by its cache.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from jobs.training.controller import Stopped
from jobs.training.lora import WithoutAdapter, add_adapter
from jobs.training.sharding import put_whole, shard, spread, whole
from jobs.training.weights import packed, trained_parameters
from marc_core.errors import TrainingError
from marc_core.models.loading import load_model
from marc_core.models.policy import Policy, freeze_vision
from marc_core.models.student_files import StudentFiles
from marc_core.models.vision_tower import dtype_of
from marc_core.rl.guard import Guard
from marc_core.rl.update import Scorer, make_optimizer, train_step
from marc_core.training.peers import Peers, ProcessPeers

if TYPE_CHECKING:
    from jobs.training.cgrpo_config import CGrpoJobConfig
    from marc_core.training.session import Restored


def learn(config: CGrpoJobConfig, session: Any, controller: Any) -> None:
    """Train to the last step, or until the controller or the guard stops the run.

    session: a `RaySession`. controller: handle of the `Controller`.
    """
    Learner(config, session, Line(controller)).run()


class Line:
    """How a worker reaches the controller."""

    def __init__(self, controller: Any) -> None:
        self.controller = controller

    def ask(self, method: str, *args: Any) -> Any:
        """Return what a method of the controller returns."""
        import ray

        return ray.get(getattr(self.controller, method).remote(*args))

    def put(self, value: Any) -> Any:
        """Return a reference that any actor may await."""
        import ray

        return ray.put(value)


class Learner:
    """One worker, its copy of the student, and its optimiser."""

    def __init__(self, config: CGrpoJobConfig, session: Any, line: Line) -> None:
        self.config, self.session, self.line = config, session, line
        files = StudentFiles(config.learner_model)
        self.directory = files.directory
        if session.device.type == "cpu":
            torch.set_num_threads(files.settings.threads or max(1, int(config.learner.cpus)))
        torch.manual_seed(config.seed)
        self.policy = load_policy(config, files)
        self.policy.train()
        if config.learner.gradient_checkpointing:
            self.policy.model.gradient_checkpointing_enable({"use_reentrant": False})
        if config.learner.lora_rank:
            add_adapter(self.policy.model, config.learner)
        self.reference = self._reference(files)
        if config.learner.sharded:
            shard(self.policy)
        self.peers = ProcessPeers(session.device) if session.size > 1 else Peers()
        self.optimizer = make_optimizer(self.policy, config)
        self.step = self.position = 0
        restored = session.restore()
        if restored is not None:
            self._take(restored)
        self.guard = Guard(config.guard, checkpoint=self._where(restored is not None))
        self.wrapped = self.policy if config.learner.sharded else session.wrap(self.policy)

    def run(self) -> None:
        """Do the steps that are left."""
        weights = self._weights()
        if self.session.rank == 0:
            self.line.ask("begin", self.step, self.position, weights)
        self.peers.sum(torch.zeros(1))  # nobody asks for a batch before rank 0 has begun
        while self.step < self.config.steps:
            started = time.monotonic()
            share = self.line.ask("batch", self.step, self.session.rank, self.session.size)
            if isinstance(share, Stopped):
                return
            got = time.monotonic()
            try:
                metrics = train_step(
                    self.wrapped,
                    self.optimizer,
                    share.groups,
                    self.config,
                    step=self.step,
                    guard=self.guard,
                    reference=self.reference,
                    peers=self.peers,
                )
            except TrainingError as error:  # the same on all workers; a restart would meet it again
                if self.session.rank == 0:
                    self.line.ask("stop", str(error))
                return
            self.step, self.position = self.step + 1, share.position
            times = {"wait_s": got - started, "update_s": time.monotonic() - got}
            self._publish(metrics | times, started)
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self._save()

    def _publish(self, metrics: dict[str, float], started: float) -> None:
        before = time.monotonic()
        weights = self._weights()
        if self.session.rank:
            return
        now = time.monotonic()
        step_s = now - started
        measured = {
            "sync_s": now - before,
            "step_s": step_s,
            "tokens_per_s": metrics["tokens"] / step_s,
            "idle_learner": metrics["wait_s"] / step_s,
        }
        self.line.ask("publish", self.step, weights, metrics | measured)

    def _weights(self) -> list[Any]:
        """Return a reference to the weights, of rank 0 alone; spread ones are gathered by all."""
        first = self.session.rank == 0
        if not (first or self.config.learner.sharded):
            return []
        dtype = dtype_of(self.config.rollout_model, self.directory)
        found = packed(self.policy.model, dtype, keep=first)
        return [self.line.put(found)] if first else []

    def _save(self) -> None:
        weights: dict[str, Any] = dict(trained_parameters(self.policy.model))
        optimizer = self.optimizer.state_dict()
        if self.config.learner.sharded:
            weights, optimizer = whole(weights), whole(optimizer)
        state = {"optimizer": optimizer, "random": torch.get_rng_state()}
        self.session.save(0, self.step, weights, state, {"position": self.position})
        self.guard.checkpoint = self._where(True)

    def _take(self, restored: Restored) -> None:
        load_trained(self.policy.model, restored.weights)
        kept = restored.optimizer["optimizer"]
        own = enumerate(self.optimizer.counted())
        self.optimizer.load_state_dict({str(i): spread(kept[str(i)], part) for i, part in own})
        torch.set_rng_state(restored.optimizer["random"])
        self.step, self.position = restored.step, int(restored.extra["position"])

    def _where(self, there: bool) -> str:
        return f"step {self.step} below {self.config.checkpoint_place}" if there else ""

    def _reference(self, files: StudentFiles) -> Scorer | None:
        """The student as it was before training, for the KL anchor."""
        if not self.config.loss.kl:
            return None
        if self.config.learner.lora_rank:
            return WithoutAdapter(self.policy)
        reference = load_policy(self.config, files)
        return reference.requires_grad_(False).eval()


def load_policy(config: CGrpoJobConfig, files: StudentFiles) -> Policy:
    """Return the student to train, its vision tower frozen."""
    model, _, _ = load_model(config.learner_model)
    freeze_vision(model)
    padding = files.tokenizer.pad_token_id
    return Policy(
        model, files.adapter, pad_id=files.tokenizer.eos_token_id if padding is None else padding
    )


def load_trained(model: Any, weights: dict[str, torch.Tensor]) -> None:
    """Give a model the weights of a checkpoint."""
    own = dict(trained_parameters(model))
    assert own.keys() == weights.keys(), "the checkpoint is of another model"
    for name, parameter in own.items():
        put_whole(parameter, weights[name])
