"""`--optimizer lbfgs`: a step evaluates one function, and is that of torch's class in a loop written by hand."""

import math

import pytest
import torch
from torch import nn

import mtl
from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.cli.main import main
from mtl.losses import MSE
from mtl.metrics import mae
from mtl.models import HardSharing
from mtl.population.penalties import directions
from mtl.train import Cohort, Member, Settings, train
from mtl.train.batches import Batches
from mtl.train.loop import train_to_the_end
from mtl.train.optimizers import read_optimizer
from mtl.train.processes import Processes
from tests.population.problem import Normed, Three, ThreeMissing
from tests.written import through_disk

pytestmark = pytest.mark.usefixtures("float64")

SPEC = "lbfgs:history_size=5,max_iter=4,line_search_fn=strong_wolfe"
SETTINGS = Settings(steps=6, batch_size=64, lr=1.0, optimizer=SPEC)


def lbfgs(model, spec=SPEC, lr=1.0):
    return torch.optim.LBFGS(model.parameters(), lr=lr, **read_optimizer(spec).arguments)


def by_hand(benchmark, splits, settings, seed, strategy="equal", penalty=lambda _model, _first: 0.0):
    """The parameters after training with torch's class; weights are those of the balancer at the first evaluation."""
    torch.manual_seed(seed)
    model = benchmark.model(benchmark.tasks, splits.train.first(2)).train()
    optimizer, batches = lbfgs(model, settings.optimizer, settings.lr), Batches(splits.train, settings.batch_size, seed)
    balancer = mtl.Balancer(strategy, model.shared_parameters(), seed=seed, tasks=[t.name for t in benchmark.tasks])
    for step in range(settings.steps):
        batch, drawn, weights = batches[step], torch.get_rng_state(), []

        def losses(batch=batch):
            found = model(batch.inputs)
            return {task.name: task.loss(found[task.name], batch.targets[task.name]) for task in benchmark.tasks}

        def closure(losses=losses, weights=weights, drawn=drawn):
            torch.set_rng_state(drawn)
            if first := not weights:
                optimizer.zero_grad()
                weights.append(balancer.backward(losses(), recompute=losses))
                torch.set_rng_state(drawn)
            optimizer.zero_grad()
            total = (weights[0] * torch.stack([*losses().values()])).sum() + penalty(model, first)
            total.backward()
            return total

        optimizer.step(closure)
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def assert_by_hand(settings, strategy="equal", penalty=lambda _model, _first: 0.0, benchmark=None):
    benchmark = benchmark or Three()
    splits = benchmark.load()
    result = train(benchmark, splits, strategy, settings, seed=3)
    cohort = Cohort(benchmark, splits, [Member(strategy, 3)], settings, told=True)  # whose last parameters are kept
    train_through(cohort)
    assert result.status == "done" and not result.skipped, result.reason
    for name, value in by_hand(benchmark, splits, settings, 3, strategy, penalty).items():
        torch.testing.assert_close(cohort.weights(0)[name], value, atol=1e-10, rtol=0)


def train_through(cohort):
    cohort.advance(cohort.length)
    cohort.evaluate()
    cohort.remember([0])


@pytest.mark.parametrize(
    "spec", ["lbfgs", SPEC, "L-BFGS:max_iter=3,tolerance_change=1e-5", "torch.optim:LBFGS:max_iter=2"]
)
def test_equal_to_a_loop_by_hand(spec):
    assert_by_hand(Settings(steps=4, batch_size=64, lr=0.5, optimizer=spec))


@pytest.mark.parametrize("strategy", ["uncertainty", "gradnorm", "mgda", "pcgrad", "famo", "rlw", "imtl-g+every:n=2"])
def test_the_weights_of_a_strategy_hold_within_a_step(strategy):
    assert_by_hand(SETTINGS, strategy)


class Dropping(Three):
    """Dropout in the trunk."""

    trunk = "mlp:width=8,depth=1,dropout=0.3"


def test_every_evaluation_of_a_step_draws_the_same_dropout():
    assert_by_hand(SETTINGS, "famo", benchmark=Dropping())


def test_penalties_are_a_part_of_the_function():
    def penalty(model, _first):
        squares = sum(p.square().sum() for p in model.parameters())
        matrices = [p for p in model.parameters() if p.ndim > 1]
        far = sum((w @ w.mT - torch.eye(len(w))).square().sum() for w in matrices)
        return 1e-2 * squares + 1e-3 * sum(p.abs().sum() for p in model.parameters()) + 1e-2 * far

    assert_by_hand(Settings(**{**vars(SETTINGS), "l2": 1e-2, "l1": 1e-3, "orthogonal": 1e-2}), penalty=penalty)


def test_the_directions_of_a_spectral_penalty_turn_once_a_step():
    vectors = {}

    def penalty(model, first):
        total = 0.0
        for name, weight in model.named_parameters():
            if weight.ndim == 2:
                if name not in vectors:
                    vectors.update(zip([name], directions({name: weight.shape[1]}, 3, weight.detach()), strict=True))
                if first:
                    vectors[name] = torch.nn.functional.normalize(
                        weight.detach().T @ (weight.detach() @ vectors[name]), dim=0
                    )
                total = total + 0.1 * (weight @ vectors[name]).square().sum()
        return total

    assert_by_hand(Settings(**{**vars(SETTINGS), "spectral": 0.1}), penalty=penalty)


class Convex(Benchmark):
    """Two tasks of linear functions of inputs whose scales differ a hundredfold; what they share is a bias."""

    name = "convex"
    tasks = (Task("first", MSE(), (mae,)), Task("second", MSE(), (mae,)))

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(96, 6, generator=generator) * torch.logspace(-1, 1, 6)
        y = x @ torch.randn(6, 2, generator=generator) / torch.logspace(-1, 1, 6).mean()
        split = Split(x, {"first": y[:, 0], "second": y[:, 1]})
        return Splits(split, split.take(slice(0, 32)), split.take(slice(32, 64)))

    def model(self, tasks, inputs):  # noqa: ARG002
        return HardSharing(Shifted(), {task.name: nn.Linear(6, 1) for task in tasks})


class Shifted(nn.Module):
    def __init__(self):
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(6))

    def forward(self, x):
        return x + self.shift


def test_on_a_full_batch_it_beats_gradient_descent_by_far():
    def loss(**settings):
        result = train(Convex(), Convex().load(), "equal", Settings(batch_size=96, **settings), seed=0)
        return sum(result.history["validation_loss"][-1]), result.cost

    found, cost = loss(steps=10, lr=1.0, optimizer="lbfgs:line_search_fn=strong_wolfe,tolerance_change=0")
    passes = cost["forwards"]
    descents = [loss(steps=passes, lr=lr, optimizer="sgd")[0] for lr in (1e-4, 1e-3, 3e-3, 1e-2)]
    assert found < 1e-8 * min(each for each in descents if math.isfinite(each))
    assert cost["steps"] == 10 and 10 < passes == cost["backwards"]


def test_running_statistics_move_once_a_step():
    result = train(Normed(), Normed().load(), "equal", Settings(**{**vars(SETTINGS), "steps": 5}), seed=0)
    (tracked,) = [int(value) for name, value in result.weights.items() if name.endswith("num_batches_tracked")]
    assert tracked == result.best_step and result.cost["forwards"] > 2 * result.cost["steps"]


# --- what is not finite ------------------------------------------------------------------------------------------


class Exploding(Three):
    """The second task's loss is not finite at the evaluations `bad`, counted over the run."""

    def __init__(self, value=math.nan):
        self.calls, self.bad, usual = 0, set(), Three.tasks[1].loss

        def loss(prediction, target):
            if not torch.is_grad_enabled():
                return usual(prediction, target)
            self.calls += 1
            return usual(prediction, target) * (value if self.calls in self.bad else 1.0)

        self.tasks = (Three.tasks[0], Task("product", loss, (mae,)), Three.tasks[2])


def state_of(cohort):
    """Parameters and the optimizer's memory, as they are now."""
    saved = cohort.state_dict()["groups"][0]["stepper"]
    return through_disk({"model": saved["model"], "optimizer": saved["optimizer"]["state"]})


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("spec", [SPEC, "lbfgs:max_iter=4"])
@pytest.mark.parametrize("evaluation", [1, 2, 4])
def test_a_step_that_meets_what_is_not_finite_is_left_out_and_counted(spec, evaluation, value):
    benchmark = Exploding(value)
    settings = Settings(steps=12, batch_size=64, lr=0.5, optimizer=spec)
    cohort = Cohort(benchmark, benchmark.load(), [Member("equal", 3)], settings)
    cohort.advance(3)
    before = state_of(cohort)
    benchmark.bad = {benchmark.calls + evaluation}
    cohort.advance(1)
    torch.testing.assert_close(state_of(cohort), before, rtol=0, atol=0)
    cohort.advance(1)
    assert not torch.equal(state_of(cohort)["model"]["trunk.1.weight"], before["model"]["trunk.1.weight"])
    train_to_the_end(cohort)
    (result,) = cohort.results()
    assert (result.status, result.skipped) == ("done", {"nonfinite_loss": 1}), result.reason


def test_a_run_that_goes_on_with_another_optimizer_keeps_its_cost_and_the_steps_that_were_left_out():
    benchmark = Exploding(math.nan)
    benchmark.bad = {2}
    settings = Settings(steps=12, batch_size=64, lr=0.5, optimizer=SPEC)
    cohort = Cohort(benchmark, benchmark.load(), [Member("equal", 3)], settings, vectorised=False)
    cohort.advance(3)
    (before,) = cohort.results()
    cohort.replace({0: Member("equal", 3, {"optimizer": "adam"})})
    (after,) = cohort.results()
    assert before.skipped == after.skipped == {"nonfinite_loss": 1}
    assert all(before.cost[passes] == after.cost[passes] > 3 for passes in ("forwards", "backwards"))


def test_a_run_whose_steps_are_all_left_out_has_diverged():
    benchmark = Exploding(math.inf)
    benchmark.bad = {*range(2, 1000, 2)}
    result = train(benchmark, benchmark.load(), "equal", SETTINGS, seed=0)
    assert (result.status, result.skipped) == ("diverged", {"nonfinite_loss": 6})


def test_absent_tasks_are_counted_once_a_step():
    result = train(ThreeMissing(), ThreeMissing().load(), "equal", Settings(**{**vars(SETTINGS), "batch_size": 4}))
    assert result.status == "done" and 0 < result.skipped["absent_task"] <= SETTINGS.steps


# --- a run and its state -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", ["famo", "gradnorm"])
def test_a_resumed_run_is_the_same_bit_for_bit(strategy):
    settings = Settings(**{**vars(SETTINGS), "steps": 12, "ema": 0.9, "warmup": 3, "schedule": "cosine"})
    members = [Member(strategy, 1)]
    whole, resumed = (Cohort(Dropping(), Dropping().load(), members, settings) for _ in range(2))
    whole.advance(7)
    resumed.load_state_dict(through_disk(whole.state_dict()))
    for one in (whole, resumed):
        train_to_the_end(one)
    (first,), (second,) = whole.results(), resumed.results()
    assert first.history == second.history and first.metrics == second.metrics
    assert {**first.cost, "seconds": 0} == {**second.cost, "seconds": 0}
    for name, value in whole.weights(0).items():
        assert torch.equal(value, resumed.weights(0)[name])


def test_members_are_trained_one_at_a_time_and_copied():
    told = []
    settings = Settings(**{**vars(SETTINGS), "steps": 10})
    members = [Member("equal", 0), Member("mgda", 1), Member("equal", 2, {"lr": 0.05})]
    cohort = Cohort(Three(), Three().load(), members, settings, tell=told.append)
    assert told == [
        f"optimizer {SPEC}: lr=0.05 makes its steps short, of which 1 is the natural length",
        f"optimizer {SPEC} is stepped one member at a time",
    ]
    cohort.advance(3)
    cohort.exploit({2: 0})
    source, target = (cohort._groups.place(number)[0].stepper.state_dict()["optimizer"]["state"] for number in (0, 2))
    torch.testing.assert_close(through_disk(source), through_disk(target), rtol=0, atol=0)
    # Another length of the history is another form of the state, which begins anew.
    cohort.replace({1: Member("mgda", 1, {"optimizer": "lbfgs:history_size=9"})})
    train_to_the_end(cohort)
    assert [result.status for result in cohort.results()] == ["done"] * 3


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lbfgs:max_iter=0", "max_iter=0 must be a whole number, at least 1"),
        ("lbfgs:history_size=2.5", r"history_size=2\.5 must be a whole number, at least 1"),
        ("lbfgs:max_eval=0", "max_eval=0 must be a whole number, at least 1"),
        ("lbfgs:tolerance_grad=-1", "tolerance_grad=-1 must be at least 0"),
        ("lbfgs:line_search_fn=wolfe", "line_search_fn=wolfe must be strong_wolfe or none"),
        ("lbfgs:history=3", "lbfgs has no argument 'history': did you mean history_size"),
        ("lbfgs:lr=1", "lr is a training setting of its own, --lr"),
    ],
)
def test_a_bad_argument_is_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        Settings(optimizer=spec)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"accumulate": 2}, "does not go with accumulate=2: each evaluation is of a batch as a whole"),
        ({"amp": "bf16"}, "does not go with amp=bf16: it goes by small differences"),
        ({"amp": "fp16"}, "does not go with amp=fp16: it goes by small differences"),
        ({"clip": 1.0}, r"does not go with clip=1\.0: its steps are made of whole gradients"),
        ({"clip_value": 0.5}, r"does not go with clip_value=0\.5: its steps are made of whole gradients"),
        ({"head_weighting": "own"}, "does not go with head_weighting=own: heads and trunk would follow"),
        ({"head_lr": 0.1}, r"does not go with head_lr=0\.1: it has one learning rate"),
        ({"heads": "sign:lr=0.1"}, r"does not go with heads\.sign\.lr=0\.1: it has one learning rate"),
        ({"weight_decay": 0.1}, r"it has no weight decay, and weight_decay is 0\.1"),
    ],
)
def test_a_setting_that_makes_no_sense_beside_it_is_refused_in_one_line(setting, message):
    with pytest.raises(ValueError, match=message) as caught:
        Settings(**{**vars(SETTINGS), **setting})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (Member("graddrop"), "does not go with graddrop: that makes a direction"),
        (Member("moco"), "does not go with moco: that makes a direction"),
        (Member("auto-lambda"), "does not go with auto-lambda: that looks ahead along the gradient"),
        (Member("equal", losses={"product": {"name": "learned:of=mse"}}), "a learned loss, as of task 'product'"),
    ],
)
def test_a_run_that_is_no_one_function_is_refused_in_one_line(member, message):
    with pytest.raises(ValueError, match=message) as caught:
        Cohort(Three(), Three().load(), [member], SETTINGS)
    assert "\n" not in str(caught.value)


def test_several_processes_are_refused_in_one_line():
    with pytest.raises(ValueError, match="does not go with several processes: train by one"):
        Cohort(Three(), Three().load(), [Member("equal")], SETTINGS, processes=Processes(0, 2))


class Uneven(Three):
    """A head has a parameter of another dtype."""

    def model(self, tasks, inputs):
        model = super().model(tasks, inputs)
        model.heads["sign"].register_parameter("more", nn.Parameter(torch.zeros(1, dtype=torch.float32)))
        return model


def test_parameters_of_several_dtypes_are_refused_in_one_line():
    with pytest.raises(
        ValueError, match=r"all parameters as one vector, and they are of torch\.float32, torch\.float64"
    ):
        train(Uneven(), Three().load(), "equal", SETTINGS)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "--strategy", "graddrop"], "does not go with graddrop: that makes a direction"),
        (["compare", "--strategies", "equal", "moco"], "does not go with moco: that makes a direction"),
        (["train", "--loss", "product=learned:of=mse"], "does not go with a learned loss, as of task 'product'"),
        (
            ["search", "--search", "lr=0.1:1", "weight_decay=0", "clip=0.1:1"],
            "does not go with clip, which is searched",
        ),
        (["search", "--strategies", "equal", "graddrop", "--search", "weight_decay=0"], "does not go with graddrop"),
    ],
)
def test_commands_refuse_it_before_training(command, message, tmp_path, capsys):
    name, *options = command
    given = [name, "tests/tiny.py:Tiny", *options, "--optimizer", "lbfgs", "--wandb", "disabled"]
    assert main([*given, "--out", str(tmp_path / "run")]) == 2
    assert message in (said := capsys.readouterr().err) and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
