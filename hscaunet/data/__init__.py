"""Photos, label maps and hints, for training and evaluation."""
