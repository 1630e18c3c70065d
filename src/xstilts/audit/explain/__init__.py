"""Where a number or a file comes from."""
