"""Training and evaluation: what the commands call, built of models, dataset and viz."""
