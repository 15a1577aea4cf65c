"""Model files that come with the runtime; see `runtime.models.manifest`."""
