"""A user's model with an error that evaluation meets, and only beside some values."""

from torch import nn

from mtl.models import HardSharing
from tests.tiny import Tiny


class Trunk(nn.Linear):
    """A layer that cannot be evaluated once it was trained on batches of 5 to 23 examples."""

    size = 0

    def forward(self, inputs):
        if self.training:
            self.size = len(inputs)
        elif 4 < self.size < 24:
            raise RuntimeError(f"a batch of {self.size} is too\nsmall")
        return super().forward(inputs)


class Raises(Tiny):
    """Tiny with that layer."""

    name = "raises"

    def model(self, tasks, inputs):
        return HardSharing(Trunk(inputs.shape[1], 4), {task.name: nn.Linear(4, task.outputs) for task in tasks})
