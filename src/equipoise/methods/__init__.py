"""Which weights: the maths of each published method, one file a method."""
