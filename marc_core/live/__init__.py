"""Live sources: what cameras send becomes segment files with a wall clock; growing folders are
looked after. No Ray, no models: indexing what comes out is `pipelines.live`."""
