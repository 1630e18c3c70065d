"""Retrieval of answers and entities from a pool of candidates."""
