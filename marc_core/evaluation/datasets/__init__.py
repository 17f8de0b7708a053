"""Questions of benchmarks in one form, and where they come from."""
