"""Matching and losses: a criterion is a list of named, weighted losses over matched predictions."""
