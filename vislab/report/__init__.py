"""Tables for people: tidy frames from the run store, and their views. Knows no torch."""
