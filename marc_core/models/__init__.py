"""The student and its teacher: Qwen-VL models that read compressed video.

Import from the modules: some need torch and transformers, others only a model's files.
"""
