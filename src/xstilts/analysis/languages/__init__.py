"""The stage distances: how far each language is from the source language."""
