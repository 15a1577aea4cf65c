"""Training: options, batches, losses and the loop."""
