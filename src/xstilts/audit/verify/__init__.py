"""Whether everything in a results folder is as it was made."""
