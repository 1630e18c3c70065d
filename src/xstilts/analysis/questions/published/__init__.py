"""How the numbers compare with published ones."""
