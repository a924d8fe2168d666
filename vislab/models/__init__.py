"""Models assembled from blocks, one file per model."""
