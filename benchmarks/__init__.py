"""Benchmarks: each module is a program that prints JSON; committed results are in results/."""
