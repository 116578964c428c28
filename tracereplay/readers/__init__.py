"""One file per trace format, detection, and the registry FORMATS."""
