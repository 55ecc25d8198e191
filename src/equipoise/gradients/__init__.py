"""How task gradients are reached: one lazy value, taken at the parameters, at the features, across batches, at a
perturbed point, and over ranks.
"""
