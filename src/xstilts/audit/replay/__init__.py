"""Artifacts made again from their inputs, and compared."""
