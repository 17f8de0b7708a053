"""The steps of `benchmarks.true_shape`: each reads what the ones before it left, and says figures.

load        the whole student, and every weight read once
encode      a clip's events through the vision tower alone
compress    each event's hierarchy; one frame's tokens cut out of them; the evidence
train_set   the stage of `marc train-set` on a Video-R1-style file, with what the teacher reads
rollout     the pools' actors: teacher's answers from all frames, the student's G, the teacher's
            distributions over these
loss        the policy's log-probabilities of these answers, beside those that were recorded
update      the learner's step: LoRA, gradient checkpointing, bfloat16, KL anchor, distillation
checkpoint  the learner again from its checkpoint; the export, loaded again
update_all  the learner's step with all weights, at SHALLOW_LAYERS layers; what 36 would need
evaluate    `marc evaluate` of two rows of a Video-R1-style file: all frames, one frame's tokens
train       `marc train`, one step: learner, teacher pool and rollout pool on Ray
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.true_work import (
    BYTES_A_WEIGHT,
    ROWS,
    SHALLOW_LAYERS,
    Kept,
    OneBatch,
    Phases,
    Work,
    changed,
    marc,
    same,
)
from jobs.training.cgrpo_config import CGrpoJobConfig
from jobs.training.learner import Learner, load_policy
from marc_core.config import load_config


def load(work: Work, phase: Phases) -> dict[str, Any]:
    from marc_core.models.loading import load_model

    with phase("load"):
        model, _, dtype = load_model(work.plain())
    with phase("read"):
        for parameter in model.parameters():
            parameter.detach().sum()
    count = sum(p.numel() for p in model.parameters())
    return {"parameters": count, "precision": str(dtype).removeprefix("torch.")}


def encode(work: Work, phase: Phases) -> dict[str, Any]:
    from marc_core.config import MethodConfig
    from marc_core.embed import load_encoder
    from marc_core.evaluation.variants.footage import FileLoader
    from marc_core.models.vision_tower import VisionTower

    config = load_config(MethodConfig, preset="qwen2.5-vl-3b", overrides=work.settings())
    clip = str(work.videos / "clip.mp4")
    with phase("decode_and_cut"):
        footage = FileLoader(config, load_encoder(config.encoder)).load(clip)
    with phase("load_tower"):
        tower = VisionTower(config.student)
    events = [(footage.frames_SHWC[p], footage.times_S[p]) for p in footage.positions]
    with phase("encode"):
        features = tower.encode_events(events)
    work.keep("features", features)
    return {
        "frames": sum(len(frames) for frames, _ in events),
        "events": len(events),
        "tokens": sum(f.groups_TPD.shape[0] * f.groups_TPD.shape[1] for f in features),
    }


def compress(work: Work, phase: Phases) -> dict[str, Any]:
    from marc_core.compress import cut_events, stored_form
    from marc_core.config import CompressConfig
    from marc_core.models.student_files import StudentFiles

    features = work.kept("features")
    with phase("hierarchies"):
        trees: list[Any] = [stored_form(event, CompressConfig()) for event in features]
    with phase("cut"):
        cut = cut_events(trees, [0], 0)
    files = StudentFiles(work.plain())
    with phase("evidence"):
        data = files.evidence("What happens?", cut).to_bytes()
    return {"tokens": cut.num_tokens, "source_tokens": cut.num_source_tokens, "bytes": len(data)}


def train_set(work: Work, phase: Phases) -> dict[str, Any]:
    from jobs.training.train_rows import TrainRows
    from marc_core.evidence import Evidence
    from marc_core.train_set.config import TrainSetConfig
    from pipelines.train_set import RowStage, open_source, set_shards

    place = work.directory / "train-set"
    shutil.rmtree(place, ignore_errors=True)
    own = ["source=video-r1", f"videos='{work.videos}'", f"data='{work.questions}'",
           "store_teacher=true", "budgets=[0]", f"output='{place}'"]  # fmt: skip
    config = load_config(TrainSetConfig, preset="qwen2.5-vl-3b", overrides=[*work.settings(), *own])
    shards, paths = set_shards(config), open_source(config).paths()
    with phase("load"):
        stage = RowStage(config, shards)
    with phase("rows"):
        shards.write("00000", [stage.one(path) for path in paths])
    (failed,) = {end["error"] for end in shards.ends()}
    assert not failed, failed
    rows = TrainRows(str(place), {})
    return {
        "rows": len(rows),
        "student_tokens": rows.sample(0).student_evidence().num_tokens,
        "teacher_tokens": Evidence.from_bytes(rows.teacher(0)).num_tokens,
    }


def rollout(work: Work, phase: Phases) -> dict[str, Any]:
    from jobs.training.actors import RolloutActor, TeacherActor
    from jobs.training.asked import Asked, answered, student_request, teacher_request
    from jobs.training.train_rows import TrainRows
    from marc_core.evidence import Evidence
    from marc_core.models.policy import Drawn

    config = work.training()
    rows = TrainRows(config.train_set, {})
    asked = Asked(position=0, row=0, sample=rows.sample(0))
    seen = rows.teacher(0)
    student = RolloutActor(config.rollout_model, config.learner)
    teacher = TeacherActor(config.teacher_reader)
    with phase("load_both"):
        asyncio.run(student.ready())
        asyncio.run(teacher.ready())
    with phase("teacher_answers"):
        (texts,) = asyncio.run(teacher.answer([teacher_request(asked, seen, config)])).value
    asked = dataclasses.replace(asked, texts=texts)
    with phase("student_answers"):
        given = [student_request(asked, config, 0)]
        (completions,) = asyncio.run(student.draw(given, (0, 0), ())).value
    made = answered(asked, completions, config)
    with phase("teacher_scores"):
        drawn = Drawn(
            evidence=Evidence.from_bytes(seen),
            completions=made.group.completions,
            record=made.group.record,
        )
        scores = asyncio.run(teacher.score([drawn], config.loss.teacher_tokens)).value
    work.keep("group", dataclasses.replace(made.group, teacher=tuple(scores)))
    student.engine.close()
    teacher.engine.close()
    return {
        "answers": len(completions),
        "answer_tokens": sum(len(c.token_ids) for c in completions),
        "student_prompt_tokens": completions[0].prompt_tokens,
        "teacher_visual_tokens": drawn.evidence.num_tokens,
    }


def loss(work: Work, phase: Phases) -> dict[str, Any]:
    from marc_core.models.policy import Drawn
    from marc_core.models.student_files import StudentFiles

    config, group = work.training(), work.kept("group")
    with phase("load"):
        policy = load_policy(config, StudentFiles(config.learner_model)).eval()
    drawn = Drawn(
        evidence=group.evidence,
        completions=group.completions,
        record=group.record,
        teacher=group.teacher,
    )
    with phase("forward"), torch.no_grad():
        scored = policy([drawn])
    pairs = zip(scored.log_probs, group.drawn_log_probs, strict=True)
    gap = max(float((own - torch.tensor(drawn)).abs().max()) for own, drawn in pairs)
    return {
        "sampler_gap_nats": round(gap, 4),
        "entropy_nats": round(float(torch.cat(scored.entropies).mean()), 3),
        "divergence_nats": round(float(torch.cat(scored.divergences).mean()), 5),
    }


def update(work: Work, phase: Phases) -> dict[str, Any]:
    shutil.rmtree(work.directory / "learner", ignore_errors=True)
    return _updated(work, work.training(), phase)


def update_all(work: Work, phase: Phases) -> dict[str, Any]:
    output = work.directory / "learner-all"
    shutil.rmtree(output, ignore_errors=True)
    config = work.training(
        f"output='{output}'", f"student.model='{work.shallow}'", "learner.lora_rank=0",
        "optimizer.autocast=true", "loss.kl=0",
    )  # fmt: skip
    found = _updated(work, config, phase)
    shutil.rmtree(output)
    return found | {"layers": SHALLOW_LAYERS, "true_shape_needs_gb": needed_gb(work)}


def checkpoint(work: Work, phase: Phases) -> dict[str, Any]:
    from jobs.training.export import export_student
    from jobs.training.weights import trained_parameters
    from marc_core.models.vision_tower import vision_fingerprint

    config = work.training()
    session, line = Kept(Path(config.output)), OneBatch(work.kept("group"))
    restored = session.restore()
    assert restored is not None, "the step `update` leaves a checkpoint"
    with phase("resume"):
        learner = Learner(config, session, line)
    own = dict(trained_parameters(learner.policy.model))
    equal = all(torch.equal(own[name].detach(), w) for name, w in restored.weights.items())
    kept = learner.optimizer.state_dict()
    alike = same(kept, restored.optimizer["optimizer"])
    step = learner.step
    del learner, own, kept
    out = work.directory / "exported"
    with phase("export"):
        export_student(config, restored.weights, out, ROWS)
    student = dataclasses.replace(config.student, model=str(out))
    with phase("load_again"):
        from marc_core.models.loading import load_model

        model, _, _ = load_model(student)
    differing = changed(work.student, out)
    tower = vision_fingerprint(student) == vision_fingerprint(config.student)
    del model
    size = sum(f.stat().st_size for f in out.glob("*.safetensors"))
    shutil.rmtree(out)
    return {
        "resumed_at_step": step,
        "weights_equal": equal,
        "optimizer_equal": alike,
        "exported_gb": round(size / 1e9, 2),
        "exported_tensors_changed": differing,
        "same_vision_tower": tower,
    }


def evaluate(work: Work, phase: Phases) -> dict[str, Any]:
    output = work.directory / "evaluation"
    shutil.rmtree(output, ignore_errors=True)
    marc(
        "evaluate", "--benchmark", "videomme", "--preset", "qwen2.5-vl-3b", *work.settings(),
        f"data={work.questions}", f"videos={work.videos}", "probe_videos=0",
        f"output={output}",
    )  # fmt: skip
    result = json.loads((output / "result.json").read_text())
    rows = result["rows"]
    return {
        "prompt": result["manifest"]["prompt"],
        "answered": sum(row.get("error", "") in ("", None) for row in rows),
        "visual_tokens": {r["variant"]: r["visual_tokens"] for r in rows if "visual_tokens" in r},
    }


def train(work: Work, phase: Phases) -> dict[str, Any]:
    output = work.directory / "run"
    shutil.rmtree(output, ignore_errors=True)
    marc(
        "train", "--preset", "qwen2.5-vl-3b", "--config", "train_cgrpo_3b", *work.settings(),
        *work.training_settings(), f"output={output}",
    )  # fmt: skip
    (point,) = [json.loads(line) for line in (output / "curves.jsonl").read_text().splitlines()]
    shutil.rmtree(output / "student")
    named = ("loss", "grad_norm", "kl", "sampler_gap", "divergence", "draw_s", "teacher_s",
             "update_s", "step_s")  # fmt: skip
    return {name: point[name] for name in named if name in point}


STEPS: Mapping[str, Callable[[Work, Phases], dict[str, Any]]] = {
    step.__name__: step
    for step in (
        load, encode, compress, train_set, rollout, loss, update, checkpoint, update_all, evaluate,
        train,
    )
}  # fmt: skip


def needed_gb(work: Work) -> float:
    """Return what training all weights of the true shape takes before activations: those of the
    language model at BYTES_A_WEIGHT, the frozen vision tower in float32."""
    from marc_core.models.weights import stored_tensors, tower_tensors

    tower = sum(t.num_parameters for t in tower_tensors(work.student).values())
    every = sum(t.num_parameters for t in stored_tensors(work.student))
    return round(((every - tower) * BYTES_A_WEIGHT + tower * 4) / 1e9, 1)


def _updated(work: Work, config: CGrpoJobConfig, phase: Phases) -> dict[str, Any]:
    """Do one step of a learner, and save it."""
    line = OneBatch(work.kept("group"))
    with phase("load"):
        learner = Learner(config, Kept(Path(config.output)), line)
    trained = [p for p in learner.policy.parameters() if p.requires_grad]
    with phase("step_and_checkpoint"):
        learner.run()
    found = line.published
    return {
        "trained_parameters": sum(p.numel() for p in trained),
        "trained_in": sorted({str(p.dtype).removeprefix("torch.") for p in trained}),
        "update_s": round(found["update_s"], 1),
        "checkpoint_s": round(time.monotonic() - line.published_at, 1),
        "loss": round(found["loss"], 5),
        "grad_norm": round(found["grad_norm"], 5),
        "sampler_gap_nats": round(found["sampler_gap"], 4),
    }


def main() -> None:
    step, directory = sys.argv[1:]
    phase = Phases()
    said = STEPS[step](Work(Path(directory)), phase)
    phases = {"phases": phase.seconds} if phase.seconds else {}
    sys.stdout.write(json.dumps(phases | said) + "\n")


if __name__ == "__main__":
    main()
