"""How task gradients are reached: at the parameters, at the features, across batches, and over ranks."""
