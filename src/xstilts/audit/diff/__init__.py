"""What differs between two artifacts or two studies."""
