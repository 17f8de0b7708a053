"""The student and its teacher: Qwen-VL models that read compressed video."""

from marc_core.models.loading import load_student, student_fingerprint
from marc_core.models.prompt import choices_of, question_text
from marc_core.models.student import Generation, Prepared, Student

__all__ = [
    "Generation",
    "Prepared",
    "Student",
    "choices_of",
    "load_student",
    "question_text",
    "student_fingerprint",
]
