"""Artifacts: folders published whole, a manifest of their bytes, a record of their making."""
