"""A sweep's trials as a frame, as figures and as files."""
