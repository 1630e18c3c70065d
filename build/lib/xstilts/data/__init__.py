"""Data: from sources to canonical rows to tokens."""
