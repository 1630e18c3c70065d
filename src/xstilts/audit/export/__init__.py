"""What is written from a study's manifests for others: archive, RO-Crate, model cards."""
