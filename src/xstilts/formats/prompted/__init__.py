"""Prompts: a context, and the answer that a decoder chooses or writes."""
