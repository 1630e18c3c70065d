"""How linguistic distance degrades transfer."""
