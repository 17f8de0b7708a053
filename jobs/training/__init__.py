"""Ray Train wiring of the trainings in `marc_core.training`."""
