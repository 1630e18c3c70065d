"""Training: one engine for pretraining, intermediate training and fine-tuning."""
