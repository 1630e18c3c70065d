"""The seven formats: how each is encoded, trained and decoded."""
