"""Retrieval of translations."""
