"""LeNet as the MultiMNIST literature has it."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from equipoise.nn.trunk import Trunk


def lenet(
    size: int = 36, width: int = 10, features: int = 50, inputs: int = 1, dropout: float = 0.5
) -> Trunk:
    """Two 5x5 convolutions with pooling and a layer of features, in three stages.

    Args:
        size: height and width of the image: 36, or 28.
        width: channels of the first convolution; twice as many in the second.
        features: of the last stage.
        inputs: channels of the image.
        dropout: behind the second convolution.

    Raises:
        ValueError: nothing is left of an image as small as this.

    References:
        Sener, Koltun, *Multi-Task Learning as Multi-Objective Optimization*, NeurIPS 2018,
        arXiv:1810.04650.
    """
    side = ((size - 4) // 2 - 4) // 2
    if side < 1:
        raise ValueError(f"size={size}: two 5x5 convolutions with pooling need 16 or more")

    def stages() -> Sequence[nn.Module]:
        return [
            nn.Sequential(nn.Conv2d(inputs, width, 5), nn.MaxPool2d(2), nn.ReLU()),
            nn.Sequential(
                nn.Conv2d(width, 2 * width, 5), nn.Dropout(dropout), nn.MaxPool2d(2), nn.ReLU()
            ),
            nn.Sequential(nn.Flatten(), nn.Linear(2 * width * side**2, features), nn.ReLU()),
        ]

    return Trunk(stages, (width, 2 * width, features))


def lenet_head(
    features: int = 50, outputs: int = 10, hidden: int = 50, dropout: float = 0.5
) -> nn.Sequential:
    """A task's head of two layers.

    Args:
        features: of the trunk.
        outputs: of the task, such as its classes.
        hidden: size of the layer between.
        dropout: behind that layer.
    """
    return nn.Sequential(
        nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, outputs)
    )
