"""What models gain on reasoning."""
