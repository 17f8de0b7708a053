"""A C-GRPO run in one process: the real controller, learner, actors and models, without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from jobs.training.controller import Controller
from jobs.training.learner import Learner
from jobs.training.pools import Pool
from jobs.training.run_log import curve
from marc_core.models.loop_thread import LoopThread
from marc_core.training.session import LocalSession, Restored, read_checkpoint, write_checkpoint


class Handle:
    """An actor as Ray would hand it out."""

    def __init__(self, actor) -> None:
        self.actor = actor

    def __getattr__(self, name):
        method = getattr(self.actor, name)
        return type("Method", (), {"remote": staticmethod(method)})


class LocalController(Controller):
    def _pool(self, name, kind, args, own, room, first):
        actors = [Handle(kind(*args)) for _ in range(own.actors)]
        return Pool(name, actors, calls=own.calls, timeout_s=120, say=self.log.say)

    def _end(self, handle) -> None:
        if "engine" in handle.actor.__dict__:
            handle.actor.engine.close()


class Reference:
    """What the object store would keep: a copy, as it was."""

    def __init__(self, packed) -> None:
        self.value = {name: (kind, array.copy()) for name, (kind, array) in packed.items()}

    def __await__(self):
        return self.value
        yield  # an awaitable that never waits


class LocalLine:
    def __init__(self, controller, loop) -> None:
        self.controller, self.loop = controller, loop

    def ask(self, method, *args):
        return self.loop.submit(getattr(self.controller, method)(*args)).result(timeout=200)

    def put(self, value):
        return Reference(value)


class OneSession(LocalSession):
    """One folder that keeps every checkpoint, as a `RaySession` saves them."""

    def save(self, stage, step, weights, optimizer, extra=None) -> None:
        write_checkpoint(
            self.output / "kept" / f"{step:06d}", stage, step, weights, optimizer, extra
        )

    def restore(self) -> Restored | None:
        kept = sorted((self.output / "kept").glob("*"))
        return read_checkpoint(kept[-1]) if kept else None


def run_here(config, *, steps: int | None = None, watch: Any = None) -> list[dict[str, float]]:
    """Train to the end, or be cut off after `steps` steps; return the curve."""
    loop = LoopThread("controller")
    controller = LocalController(config, None, "teacher")
    session = OneSession(Path(config.output), torch.device("cpu"))
    learner = Learner(config, session, LocalLine(controller, loop))
    if watch is not None:
        watch(controller, learner)
    try:
        if steps is not None:
            publish = learner._publish

            def cut_off(metrics, started):
                publish(metrics, started)
                if learner.step == steps:
                    raise KeyboardInterrupt

            learner._publish = cut_off
        try:
            learner.run()
        except KeyboardInterrupt:
            assert steps is not None
        state = LocalLine(controller, loop).ask("state")
        LocalLine(controller, loop).ask("close")
    finally:
        loop.close()
    points = curve(Path(config.output))
    return [*points, {"stopped": state["stopped"]}] if state["stopped"] else points
