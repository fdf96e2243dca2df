"""The declaration of the training settings."""

import subprocess
import sys

import pytest

from mtl.hyperparameters import domains
from mtl.train import Settings


def test_the_settings_are_declared_without_torch():
    script = "import sys; from mtl.train.settings import Settings; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_setting_says_what_it_is():
    assert all(domain.doc for domain in domains(Settings).values())
    assert list(domains(Settings)) == list(Settings.__dataclass_fields__)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd", "rmsprop", "adagrad"])
def test_every_optimizer_is_made(name):
    import torch

    parameter = torch.nn.Parameter(torch.zeros(2))
    made = Settings(optimizer=name, lr=0.25, weight_decay=0.5).make_optimizer([parameter])
    assert type(made).__name__.lower() == name and made.defaults["lr"] == 0.25 and made.defaults["weight_decay"] == 0.5


def test_a_trunk_is_any_text_and_a_number_is_not():
    assert Settings(model="mlp:width=3").model == "mlp:width=3"
    with pytest.raises(ValueError, match="lr='fast' must be a finite number"):
        Settings(lr="fast")


@pytest.mark.parametrize("name", ["clip", "clip_value"])
def test_a_gradient_is_not_cut_to_nothing(name):
    with pytest.raises(ValueError, match=f"{name}=0.0 must be above 0"):
        Settings.of({name: 0.0})
    assert Settings.of({name: 1e-6}) and Settings.of({}) == Settings.of({name: None})
