"""Figures for papers, one kind a file, and the style that they share."""
