"""What of a study would be made differently today."""
