"""Evaluation: predictions per language, official metrics, scores."""
