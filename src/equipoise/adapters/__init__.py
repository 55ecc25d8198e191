"""The balancer in other people's trainers and loggers. Each module asks for its library when it is used.

* :mod:`equipoise.adapters.lightning`: a callback.
* :mod:`equipoise.adapters.transformers`: a Trainer for several losses, or several data sets.
* :mod:`equipoise.adapters.accelerate`: one call in place of ``accelerator.prepare``.
* :mod:`equipoise.adapters.loggers`: ``log(metrics, step)`` for files and trackers.
"""
