"""Supervised training on a training set: the right answer, from what the student will read."""
