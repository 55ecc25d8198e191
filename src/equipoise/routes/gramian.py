"""The Gramian of task gradients."""

from equipoise.solvers.products import gramian as gramian
