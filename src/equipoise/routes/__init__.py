"""How task gradients are reached: from the losses, the parameters or the shared features."""
