"""The gradient engine in every training setting, against one plain backward pass a task."""

import datetime
import warnings
import weakref

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import mtl
from mtl.graph import survey
from mtl.strategies import make

K, BATCH = 3, 6


class Problem(nn.Module):
    """A trunk, a head a task, and the losses of a fixed batch."""

    shape: tuple[int, ...] = (5,)

    def __init__(self, trunk, width=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = trunk()
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(K))
        self.inputs = torch.randn(BATCH, *self.shape)
        self.targets = torch.randn(BATCH, K)
        self.double()
        self.inputs, self.targets = self.inputs.double(), self.targets.double()

    def features(self):
        return self.trunk(self.inputs)

    def losses(self):
        features = self.features()
        outputs = torch.cat([head(features) for head in self.heads], 1)
        return (outputs - self.targets).square().mean(0)

    def shared(self):
        return list(self.trunk.parameters())


class Separate(Problem):
    """Losses that have graphs of their own above the features."""

    def losses(self):
        features = self.features()
        return torch.stack(
            [(head(features)[:, 0] - self.targets[:, k]).square().mean() for k, head in enumerate(self.heads)]
        )


class Images(Separate):
    shape = (1, 6, 6)


class Sequences(Separate):
    shape = (7, 5)

    def features(self):
        return self.trunk(self.inputs)[0][:, -1]


class Tokens(Separate):
    """A transformer encoder."""

    shape = (4, 4)

    def features(self):
        return self.trunk(self.inputs).mean(1)


class Scales(Separate):
    """Heads that read layers of different depth."""

    def losses(self):
        first = self.trunk[1](self.trunk[0](self.inputs))
        second = self.trunk[3](self.trunk[2](first))
        read = [first, second, first + second]
        return torch.stack(
            [(head(read[k])[:, 0] - self.targets[:, k]).square().mean() for k, head in enumerate(self.heads)]
        )


class Tied(Separate):
    """A head that uses the trunk's weights once more."""

    def losses(self):
        losses = super().losses()
        return torch.stack([losses[0], losses[1], losses[2] + self.trunk[2].weight.square().mean()])


class Inputs(Separate):
    """One input a task, of different sizes."""

    def losses(self):
        parts = [self.inputs[:2], self.inputs[2:], self.inputs]
        targets = [self.targets[:2], self.targets[2:], self.targets]
        return torch.stack(
            [
                (head(self.trunk(part))[:, 0] - target[:, k]).square().mean()
                for k, (head, part, target) in enumerate(zip(self.heads, parts, targets, strict=True))
            ]
        )


class Adapted(Separate):
    """Parameters between trunk and heads that all tasks use and that are not counted as shared."""

    def __init__(self, trunk):
        super().__init__(trunk)
        self.adapter = nn.Linear(4, 4).double()

    def features(self):
        return self.adapter(self.trunk(self.inputs)).tanh()


class Headless(Separate):
    """Every parameter is shared."""

    def shared(self):
        return list(self.parameters())


def mlp(middle=nn.Tanh):
    return nn.Sequential(nn.Linear(5, 4), middle(), nn.Linear(4, 4), nn.Tanh())


def cnn():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(32, 4))


def frozen():
    trunk = mlp()
    trunk[0].weight.requires_grad_(False)
    return trunk


PROBLEMS = {
    "joint output": lambda: Problem(mlp),
    "separate heads": lambda: Separate(mlp),
    "convolution and batch norm": lambda: Images(cnn),
    "batch norm": lambda: Separate(lambda: nn.Sequential(mlp(), nn.BatchNorm1d(4))),
    "gru": lambda: Sequences(lambda: nn.GRU(5, 4, batch_first=True)),
    "lstm": lambda: Sequences(lambda: nn.LSTM(5, 4, num_layers=2, batch_first=True)),
    "transformer": lambda: Tokens(lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)),
    "several depths": lambda: Scales(mlp),
    "tied weights": lambda: Tied(mlp),
    "an input a task": lambda: Inputs(mlp),
    "an adapter": lambda: Adapted(mlp),
    "no heads": lambda: Headless(mlp),
    "frozen": lambda: Separate(frozen),
}


def reference(problem, spec, head_weighting="weighted", measured=None):
    """Gramian and gradients by a plain backward pass a task."""
    parameters = [parameter for parameter in problem.parameters() if parameter.requires_grad]
    shared = {id(parameter) for parameter in problem.shared()}
    counted = shared if measured is None else {id(parameter) for parameter in measured}
    rows = []
    for k in range(K):
        gradients = torch.autograd.grad(problem.losses()[k], parameters, allow_unused=True)
        rows.append([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)])
    on_shared = torch.stack(
        [torch.cat([g.flatten() for p, g in zip(parameters, row, strict=True) if id(p) in counted]) for row in rows]
    )
    losses, strategy = problem.losses().detach(), make(spec)
    signals = {"losses": losses, "gramian": on_shared @ on_shared.T, "jacobian": on_shared}
    weights, _ = strategy(strategy.init_sized(losses, on_shared.shape[1]), signals)
    total = []
    for index, parameter in enumerate(parameters):
        plain = head_weighting == "own" and id(parameter) not in shared
        total.append(sum((1 if plain else weights[k]) * rows[k][index] for k in range(K)))
    return weights, dict(zip(parameters, total, strict=True))


def step(problem, spec, times=1, **options):
    balancer = mtl.Balancer(spec, problem.shared(), scale="raw", **options)
    for _ in range(times):
        problem.zero_grad()
        weights = balancer.backward(problem.losses())
    return weights, balancer


def check(weights, expected, rtol=1e-9, atol=1e-12):
    torch.testing.assert_close(weights, expected[0], rtol=rtol, atol=atol)
    for parameter, gradient in expected[1].items():
        found = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        torch.testing.assert_close(found, gradient, rtol=rtol, atol=atol)


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("batching", ["loop", "vmap", "auto"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_every_architecture_gets_the_weighted_sum_of_its_task_gradients(name, batching, head_weighting):
    problem = PROBLEMS[name]()
    expected = reference(problem, "mgda", head_weighting)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="task gradients are computed one after another")
        # Nothing but the gradients changes, so the fourth step, after `auto` has decided, is the first once more.
        weights, _ = step(problem, "mgda", 4, batching=batching, head_weighting=head_weighting)
    check(weights, expected)


def test_the_features_are_where_the_tasks_part():
    problem = Separate(mlp)
    losses = problem.losses()
    found = survey([losses[k] for k in range(K)], {id(parameter) for parameter in problem.shared()})
    assert [place.node.name() for place in found.features] == ["TanhBackward0"]
    assert [{id(leaf) for leaf in own} for own in survey_of(problem).own] == [
        {id(parameter) for parameter in head.parameters()} for head in problem.heads
    ]


def survey_of(problem):
    from mtl.graph import branches

    return survey(branches(problem.losses()), {id(parameter) for parameter in problem.shared()})


def test_there_is_no_cut_where_one_feature_lies_behind_another():
    assert survey_of(Scales(mlp)).features == []


def test_an_input_a_task_costs_one_pass_a_task():
    found = survey_of(Inputs(mlp))
    assert len(found.features) == K and found.touched == [[0], [1], [2]] and not found.common


def test_what_cannot_be_batched_goes_one_by_one_and_says_so():
    class Odd(torch.autograd.Function):
        @staticmethod
        def forward(_context, x):
            return x.clone()

        @staticmethod
        def backward(_context, gradient):
            return gradient * float(len(gradient.flatten().tolist()) > 0)

    problem = Separate(mlp)
    problem.features = lambda: problem.trunk[2](Odd.apply(problem.trunk[:2](problem.inputs)))
    expected = reference(problem, "mgda")
    with pytest.warns(UserWarning, match="one after another"):
        weights, balancer = step(problem, "mgda", batching="vmap")
    check(weights, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        balancer.backward(problem.losses())


# --- memory, and other places to measure ------------------------------------------------------------------------------


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("limit", [1, 600, 10**9])
def test_a_memory_limit_changes_the_way_and_not_the_result(limit, head_weighting):
    problem = Separate(mlp)
    expected = reference(problem, "mgda", head_weighting)
    weights, balancer = step(problem, "mgda", memory_limit=limit, head_weighting=head_weighting)
    check(weights, expected)
    groups = {1: 4, 600: 2, 10**9: None}[limit]
    assert balancer.passes["backward"] == (K if groups is None else K * groups + 1)


def test_one_group_of_task_gradients_at_a_time_is_held(monkeypatch):
    import mtl.jacobian as module

    alive, sizes = weakref.WeakSet(), []

    class Watched(module.Jacobian):
        def __init__(self, blocks, shared, num_tasks):
            super().__init__(blocks, shared, num_tasks)
            alive.add(self)
            sizes.append((len(alive), sum(block.numel() for block in self.blocks)))

    monkeypatch.setattr(module, "Jacobian", Watched)
    step(Separate(mlp), "mgda", memory_limit=8 * K * 24)
    assert sizes == [(1, K * 24), (1, K * 20)]


def test_a_gramian_on_the_last_shared_layer():
    problem = Separate(mlp)
    last = problem.shared()[2:]
    expected = reference(problem, "mgda", measured=last)
    weights, _ = step(problem, "mgda", measured_on=last)
    check(weights, expected)


@pytest.mark.parametrize("spec", ["graddrop", "auto-lambda", "moco"])
def test_strategies_that_need_every_gradient_refuse_to_go_without(spec):
    problem = Separate(mlp)
    balancer = mtl.Balancer(spec, problem.shared(), memory_limit=1)
    with pytest.raises(ValueError, match="needs every task gradient at once and cannot do with memory_limit=1"):
        balancer.backward(problem.losses(), validation=problem.losses, lookahead_lr=0.1)


# --- training settings ------------------------------------------------------------------------------------------------


def train(problem, spec, steps=3, clip=None, prepare=None, **options):
    """Parameters after some steps with parameter groups and clipping."""
    model = prepare(problem) if prepare else problem
    groups = [{"params": problem.trunk.parameters(), "lr": 0.1}, {"params": problem.heads.parameters(), "lr": 0.01}]
    optimizer = torch.optim.Adam(groups)
    balancer = mtl.Balancer(spec, problem.shared(), **options)
    for _ in range(steps):
        optimizer.zero_grad()
        balancer.backward(model.losses() if model is problem else model(), recompute=problem.losses)
        if clip:
            nn.utils.clip_grad_norm_(problem.parameters(), clip)
        optimizer.step()
    return [parameter.detach().clone() for parameter in problem.parameters()], balancer


@pytest.mark.parametrize("spec", ["mgda", "uncertainty", "upgrad+every:n=2"])
def test_a_compiled_model_trains_alike(spec):
    plain, _ = train(Separate(mlp), spec, clip=0.1)
    compiled, _ = train(
        Separate(mlp), spec, clip=0.1, prepare=lambda problem: torch.compile(problem.losses, backend="aot_eager")
    )
    torch.testing.assert_close(compiled, plain, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", ["equal", "mgda", "famo", "mgda+every:n=2"])
def test_batch_statistics_move_once_a_step(spec):
    problem = Images(cnn)
    _, balancer = train(problem, spec, steps=3)
    balancer.state_dict()  # reads what famo still has to read
    assert int(problem.trunk[1].num_batches_tracked) == 3


@pytest.mark.parametrize("spec", ["mgda", "uncertainty+mgda"])
def test_bfloat16_autocast_measures_in_single_precision(spec):
    problem = Separate(mlp).float()
    problem.inputs, problem.targets = problem.inputs.float(), problem.targets.float()
    expected = reference(problem, "mgda")
    balancer = mtl.Balancer(spec, problem.shared(), scale="raw")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = problem.losses()
    weights = balancer.backward(losses)
    assert weights.dtype == torch.float32
    for parameter, gradient in expected[1].items():
        assert torch.nn.functional.cosine_similarity(parameter.grad.flatten(), gradient.flatten(), 0) > 0.99


@pytest.mark.parametrize("spec", ["mgda", "uncertainty+mgda", "graddrop", "moco"])
def test_a_step_that_overflows_under_a_scaler_leaves_the_strategy_alone(spec):
    problem = Separate(mlp).float()
    problem.inputs, problem.targets = problem.inputs.float(), problem.targets.float()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100)
    optimizer = torch.optim.SGD(problem.parameters(), 0.1)
    balancer = mtl.Balancer(spec, problem.shared(), scaler=scaler)
    before = [parameter.detach().clone() for parameter in problem.parameters()]
    problem.targets[:] = 1e10
    balancer.backward(problem.losses())
    state = [leaf.clone() for leaf in balancer.state_dict()["state"]]
    scaler.step(optimizer)
    scaler.update()
    assert balancer.skipped["nonfinite_gradient"] == 1
    fresh = mtl.Balancer(spec, problem.shared(), scaler=scaler)
    problem.targets[:] = 0.5
    fresh.strategy.check_tasks(K)
    fresh._start(problem.losses().detach())
    for kept, start in zip(state, fresh.state_dict()["state"], strict=True):
        torch.testing.assert_close(kept, start, rtol=0, atol=0)
    for parameter, old in zip(problem.parameters(), before, strict=True):
        assert torch.equal(parameter, old)


# --- several processes ------------------------------------------------------------------------------------------------

DISTRIBUTED = ["uncertainty", "mgda", "graddrop", "famo", "auto-lambda", "moco"]


def run_process(rank, address, queue):
    dist.init_process_group(
        "gloo", init_method=address, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60)
    )
    torch.set_num_threads(1)
    results = {}
    for spec in DISTRIBUTED:
        problem = halves(rank)
        results[spec] = [p.numpy() for p in distributed_steps(problem, spec)]
    queue.put((rank, results))
    dist.destroy_process_group()


def halves(rank):
    problem = Separate(mlp)
    problem.inputs, problem.targets = problem.inputs[3 * rank : 3 * rank + 3], problem.targets[3 * rank : 3 * rank + 3]
    return problem


def distributed_steps(problem, spec):
    optimizer = torch.optim.SGD(problem.parameters(), 0.1)
    balancer = mtl.Balancer(spec, problem.shared())
    for _ in range(3):
        optimizer.zero_grad()
        balancer.backward(problem.losses(), recompute=problem.losses, validation=problem.losses, lookahead_lr=0.1)
        optimizer.step()
    return [*(parameter.detach() for parameter in problem.parameters()), balancer.weights]


@pytest.mark.slow
def test_two_processes_train_as_one_on_the_whole_batch(tmp_path):
    context = mp.get_context("spawn")
    queue = context.Queue()
    workers = [
        context.Process(target=run_process, args=(rank, f"file://{tmp_path / 'rendezvous'}", queue)) for rank in (0, 1)
    ]
    for worker in workers:
        worker.start()
    found = dict(queue.get(timeout=120) for _ in workers)
    for worker in workers:
        worker.join(30)
        assert worker.exitcode == 0
    for spec in DISTRIBUTED:
        alone = distributed_steps(Separate(mlp), spec)
        for one, other, expected in zip(found[0][spec], found[1][spec], alone, strict=True):
            assert (one == other).all()
            torch.testing.assert_close(torch.from_numpy(one), expected, rtol=1e-9, atol=1e-12)


# --- misuse -----------------------------------------------------------------------------------------------------------


def test_a_task_that_reaches_no_shared_parameter_is_named():
    problem = Separate(mlp)
    losses = problem.losses()
    apart = problem.heads[1].weight.square().sum()
    with pytest.raises(ValueError, match="the loss of task 1 reaches no shared parameter"):
        mtl.Balancer("mgda", problem.shared()).backward(torch.stack([losses[0], apart, losses[2]]))


def test_a_second_backward_says_that_the_graph_is_gone():
    problem = Separate(mlp)
    losses = problem.losses()
    balancer = mtl.Balancer("mgda", problem.shared())
    balancer.backward(losses)
    with pytest.raises(RuntimeError, match="second time"):
        balancer.backward(losses)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batching": "both"}, "batching='both' must be one of auto, vmap, loop"),
        ({"memory_limit": 0}, "memory_limit=0 must be a number of bytes"),
        ({"measured_on": [nn.Parameter(torch.ones(1))]}, "measured_on holds a parameter that is not among `shared`"),
        ({"distributed": True}, "distributed=True needs"),
    ],
)
def test_bad_options_say_what_is_allowed(options, message):
    with pytest.raises(ValueError, match=message):
        mtl.Balancer("mgda", Separate(mlp).shared(), **options)
