"""Artifacts: folders published whole, with a manifest of their bytes and a record of their making."""
