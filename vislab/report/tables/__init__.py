"""A table from the run store to its files: tidy frame, view, one writer for each format."""
