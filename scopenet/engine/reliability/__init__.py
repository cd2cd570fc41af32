"""What survives faults: checkpoints that are whole, signals, NaN, workers that die."""
