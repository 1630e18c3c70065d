"""How robust transfer is for NER against NLI."""
