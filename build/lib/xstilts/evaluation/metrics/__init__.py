"""Metrics: additive statistics per example, and how their sums become percentages."""
