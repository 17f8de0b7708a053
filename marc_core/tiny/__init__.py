"""How the tiny preset is built and trained on the synthetic world; nothing else imports it.

tokenizers   word-level tokenizers with a character fallback
models       the two architectures, from a configuration, and how they are saved
run          the trainings, from random weights to what is shipped (docs/tiny.md)
"""
