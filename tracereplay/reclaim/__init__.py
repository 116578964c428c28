"""Which page leaves memory; one file per model."""
