"""Audit: every number back to its bytes. Nothing here writes into the results that it looks at."""
