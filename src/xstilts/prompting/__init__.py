"""Prompts: how rows of data become text and sub-words for a decoder."""
