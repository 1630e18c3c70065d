"""Causal language modelling: each sub-word is predicted from those before it."""
