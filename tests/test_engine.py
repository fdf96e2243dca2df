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
from mtl.graph import branches, survey
from mtl.pieces import Product
from mtl.strategies import make
from tests.architectures import PROBLEMS, Images, Inputs, K, Scales, Separate, cnn, mlp


def reference(problem, spec, head_weighting="weighted", measured=None):
    """Gramian and gradients by a plain backward pass a task."""
    parameters = [parameter for parameter in problem.parameters() if parameter.requires_grad]
    shared = {id(parameter) for parameter in problem.shared()}
    counted = shared if measured is None else {id(parameter) for parameter in measured}
    rows = task_rows(problem, parameters)
    on_shared = flat_rows([[g for p, g in zip(parameters, row, strict=True) if id(p) in counted] for row in rows])
    losses, strategy = problem.losses().detach(), make(spec)
    signals = {"losses": losses, "gramian": on_shared @ on_shared.T, "jacobian": on_shared}
    weights, _ = strategy(strategy.init_sized(losses, on_shared.shape[1]), signals)
    total = []
    for index, parameter in enumerate(parameters):
        plain = head_weighting == "own" and id(parameter) not in shared
        total.append(sum((1 if plain else weights[k]) * rows[k][index] for k in range(K)))
    return weights, dict(zip(parameters, total, strict=True))


def task_rows(problem, parameters):
    """Each task's gradient on each parameter by a plain backward pass."""
    rows = []
    for k in range(K):
        gradients = torch.autograd.grad(problem.losses()[k], parameters, allow_unused=True)
        rows.append([torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients, strict=True)])
    return rows


def flat_rows(rows):
    return torch.stack([torch.cat([gradient.flatten() for gradient in row]) for row in rows])


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


@pytest.mark.parametrize("batching", ["loop", "vmap"])
@pytest.mark.parametrize("name", PROBLEMS)
def test_products_of_linear_layers_are_as_good_as_gradients_written_out(name, batching, monkeypatch):
    monkeypatch.setattr("mtl.jacobian.of_linear", lambda *parts: [Product(*parts)])
    problem = PROBLEMS[name]()
    expected = reference(problem, "mgda")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="task gradients are computed one after another")
        weights, balancer = step(problem, "mgda", batching=batching)
    # The factor of A A^T is that of slightly more, in the last digits of float64.
    check(weights, expected, rtol=1e-6, atol=1e-9)
    rows = flat_rows(task_rows(problem, balancer.shared))
    jacobian = jacobian_of(problem, balancer)
    torch.testing.assert_close(jacobian.flat(), rows)
    torch.testing.assert_close(jacobian.finite(), torch.ones(K, dtype=torch.bool))
    first = torch.tensor([True, *[False] * (K - 1)])
    torch.testing.assert_close(jacobian.cleaned(first).flat(), rows * first[:, None])


def jacobian_of(problem, balancer):
    losses = branches(problem.losses())
    found = survey(losses, {id(parameter) for parameter in balancer.shared})
    return balancer._differentiate(losses, balancer.shared, found)[0]


def test_the_features_are_where_the_tasks_part():
    problem = Separate(mlp)
    losses = problem.losses()
    found = survey([losses[k] for k in range(K)], {id(parameter) for parameter in problem.shared()})
    assert [place.node.name() for place in found.features] == ["TanhBackward0"]
    assert [{id(leaf) for leaf in own} for own in survey_of(problem).own] == [
        {id(parameter) for parameter in head.parameters()} for head in problem.heads
    ]


def survey_of(problem):
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
        def __init__(self, pieces, shared, num_tasks):
            super().__init__(pieces, shared, num_tasks)
            alive.add(self)
            sizes.append((len(alive), sum(piece.flat.numel() for piece in pieces)))

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
