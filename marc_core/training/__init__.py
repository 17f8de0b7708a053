"""Training of the tiny preset: pure torch functions; data comes from the synthetic world.

tokenizers   word-level tokenizers with a character fallback
tiny_models  the two architectures, from a configuration, and how they are saved
"""
