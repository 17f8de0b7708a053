"""Ray Serve application (not built yet)."""
