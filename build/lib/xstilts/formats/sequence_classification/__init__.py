"""Classification of sentences and sentence pairs."""
