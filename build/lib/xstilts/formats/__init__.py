"""The six formats: how each is encoded, trained and decoded."""
