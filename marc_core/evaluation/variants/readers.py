"""Who reads the evidence of a variant: the student, or the teacher."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from marc_core.answer import completed
from marc_core.models.student_files import StudentFiles
from marc_core.question import Sampling

if TYPE_CHECKING:
    from marc_core.config import MethodConfig, StudentConfig
    from marc_core.evidence import Evidence
    from marc_core.models.engine import Completion, StudentEngine
    from marc_core.models.vision_tower import VisionTower


class Reader:
    """A model as an evaluation asks it. Its vision tower is loaded when frames are first met.

    towers: by vision fingerprint, shared by the readers of a run, so that two models with one
    tower hold it once and their features are encoded once.
    """

    def __init__(
        self,
        config: StudentConfig,
        engine: StudentEngine,
        files: StudentFiles,
        towers: dict[str, VisionTower],
    ) -> None:
        self.config, self.engine, self.files, self._towers = config, engine, files, towers

    def answer(
        self, evidence: Sequence[Evidence], *, max_tokens: int | None = None
    ) -> list[Completion]:
        """Return one answer each, sampled as the model's section says."""
        sampling = Sampling(max_tokens=max_tokens).or_defaults(
            temperature=self.config.temperature, max_tokens=self.config.max_new_tokens
        )
        samples = completed(self.engine, evidence, [sampling] * len(evidence))
        return [first for first, *_ in samples]

    def load_tower(self) -> VisionTower:
        """Return the tower whose features the model reads."""
        from marc_core.models.vision_tower import VisionTower

        name = self.files.vision_fingerprint
        if name not in self._towers:
            self._towers[name] = VisionTower(self.config)
        return self._towers[name]


def load_readers(config: MethodConfig, roles: Sequence[str]) -> dict[str, Reader]:
    """Return the readers of these roles (student, teacher); one for both where they are equal.

    Raises ModelLoadError.
    """
    towers: dict[str, VisionTower] = {}
    sections = {"student": config.student, "teacher": config.teacher_model()}
    if sections["student"] == sections["teacher"]:
        both = load_reader(config.student, towers)
        return dict.fromkeys(roles, both)
    return {role: load_reader(sections[role], towers) for role in dict.fromkeys(roles)}


def load_reader(config: StudentConfig, towers: dict[str, VisionTower]) -> Reader:
    """Load one model."""
    from marc_core.models.engines import load_engine

    files = StudentFiles(config)
    return Reader(config, load_engine(config), files, towers)
