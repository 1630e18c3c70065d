"""The toy world: synthetic languages at planted distances from one another."""
