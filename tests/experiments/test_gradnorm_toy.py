from pathlib import Path

import pytest
import torch

from experiments.gradnorm_toy.run import SCALES, Data, main, train


def test_the_targets_are_the_papers_functions() -> None:
    generator = torch.Generator().manual_seed(0)
    matrices, x = torch.randn(2, 100, 250, generator=generator), torch.randn(3, 250, generator=generator)
    targets = Data(matrices, torch.tensor([1.0, 100.0])).targets(x)
    torch.testing.assert_close(targets[1, 1], 100 * torch.tanh(matrices[1] @ x[1]))


def test_a_seed_does_not_depend_on_those_beside_it() -> None:
    torch.testing.assert_close(train("gradnorm", 2, 2, 20, 4), train("gradnorm", 2, 3, 20, 4)[:2], rtol=1e-4, atol=1e-4)


def test_too_few_seeds_are_refused() -> None:
    with pytest.raises(ValueError, match="seeds=1"):
        train("equal", 2, 1, 40)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", SCALES)
def test_early_on_gradnorm_beats_equal_weights_and_known_noise_beats_both(tasks: int) -> None:
    equal, gradnorm, static = (train(name, tasks, 3, 300, 3)[:, -1] for name in ("equal", "gradnorm", "static"))
    assert bool((gradnorm < equal).all())
    assert bool((static < gradnorm).all())


@pytest.mark.slow
def test_the_script_runs(tmp_path: Path) -> None:
    claims = main(["--seeds", "2", "--steps", "40", "40", "--out", str(tmp_path)])
    assert len(claims) == 12
    assert (tmp_path / "results.json").exists() and (tmp_path / "picture.png").exists()
