import pytest
import torch

import mtl
from mtl.strategies import REGISTRY, hyperparameters_said, make
from mtl.strategies.combinators import COMBINATORS, Chain, Every

SPECS = [
    "equal",
    "gradnorm:alpha=0.12",
    "gradnorm:alpha=0.12,lr=0.001,optimizer=sgd",
    "static:weights=1/2/1",
    "uncertainty+gradnorm:alpha=0.12",
    "mgda+every:n=4+ema:beta=0.5",
    "uncertainty+[mgda:norm=l2+every:n=3]+normalize",
    "[uncertainty+every:n=2]+rlw+clip:low=0.1,high=5",
]


@pytest.mark.parametrize("spec", SPECS)
def test_specs_round_trip_through_text(spec):
    strategy = make(spec)
    assert make(str(strategy)) == strategy
    assert str(make(str(strategy))) == str(strategy)


def test_a_unit_is_rebuilt_with_hyperparameters_of_each_member_within_a_compiled_step():
    strategy = make("stch:form=plain")

    def weigh(losses, mu):
        return strategy.replace(mu=mu)((), {"losses": losses})[0]

    losses, mu = torch.rand(3, 4), torch.tensor([0.1, 1.0, 10.0])
    compiled = torch.compile(torch.vmap(weigh), fullgraph=True, backend="eager")(losses, mu)
    torch.testing.assert_close(compiled, torch.stack([weigh(*one) for one in zip(losses, mu, strict=True)]))


def test_a_combinator_wraps_everything_to_its_left_within_its_brackets():
    whole, part = make("uncertainty+mgda+every:n=10"), make("uncertainty+[mgda+every:n=10]")
    assert isinstance(whole, Every) and isinstance(whole.inner, Chain)
    assert isinstance(part, Chain) and isinstance(part.parts[1], Every)


def test_numbers_may_contain_a_plus_sign():
    assert make("clip:high=1e+3".join(["equal+", ""])).high == 1000


def test_keyword_hyperparameters_override_the_text_and_find_their_part_of_a_chain():
    assert make("gradnorm:alpha=1", alpha=0.5).alpha == 0.5
    chained = make("uncertainty+mgda+every:n=3", norm="l2", n=7)
    assert chained == make("uncertainty+mgda:norm=l2+every:n=7")
    assert make("static", weights=[1, 2]) == make("static:weights=1/2")


def test_a_value_can_name_the_part_of_a_chain_that_it_is_for():
    made = make("uncertainty+gradnorm+ema", **{"gradnorm.lr": 0.5, "uncertainty.lr": 0.1, "ema.beta": 0.7})
    assert made == make("uncertainty:lr=0.1+gradnorm:lr=0.5+ema:beta=0.7")
    with pytest.raises(ValueError, match="has no part 'famo'"):
        make("uncertainty+gradnorm", **{"famo.lr": 1.0})


def test_chains_are_laid_flat():
    assert mtl.chain(make("equal"), mtl.chain(make("rlw"), make("mgda"))) == make("equal+rlw+mgda")
    assert mtl.chain(make("equal")) == make("equal")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gradnrom", "unknown strategy 'gradnrom': did you mean gradnorm"),
        ("gradnorm:alhpa=1", "gradnorm has no hyperparameter 'alhpa': did you mean alpha"),
        ("gradnorm:alpha=-1", "gradnorm: alpha=-1.0 must be at least 0"),
        ("gradnorm:alpha=high", "gradnorm: alpha='high' cannot be read as float"),
        ("gradnorm:alpha", "'alpha' is not KEY=VALUE"),
        ("gradnorm:", "strategy 'gradnorm:': nothing stands behind its colon, where KEY=VALUE is wanted"),
        ("uncertainty+gradnorm:", "strategy 'gradnorm:': nothing stands behind its colon"),
        ("gradnorm:alpha=nan", "must be a finite number"),
        ("rlw:distribution=cauchy", "must be one of normal, dirichlet"),
        ("equal+every:n=0", "every: n=0 must be at least 1"),
        ("equal+every:n=1.5", "every: n='1.5' cannot be read as int"),
        ("", "a name is missing"),
        ("equal+", "a name is missing"),
        ("[equal", "a bracket is not closed"),
        ("equal]", "nothing opens the bracket"),
        ("every:n=2", "wraps what stands to its left"),
        ("static:weights=0/0", "must not be all zero"),
        ("equal+clip:low=2,high=1", "low=2 is above high=1"),
    ],
)
def test_a_bad_spec_is_refused_in_one_line(spec, message):
    with pytest.raises(ValueError) as caught:
        make(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_keyword_hyperparameters_are_refused():
    with pytest.raises(ValueError, match="no hyperparameter 'beta'"):
        make("gradnorm", beta=1)
    with pytest.raises(ValueError, match="belongs to 2 parts"):
        make("uncertainty+gradnorm", lr=0.1)


def test_static_weights_must_fit_the_number_of_tasks():
    with pytest.raises(ValueError, match="2 numbers, one a loss would be 3"):
        make("equal+static:weights=1/2").check_tasks(3)


def test_names_are_the_contract():
    fixed = ["equal", "static", "rlw", "uncertainty", "dwa", "famo", "gradnorm", "mgda", "auto-lambda"]
    assert set(fixed) <= set(REGISTRY)
    assert set(COMBINATORS) == {"every", "ema", "normalize", "clip"}
    assert all(name == cls.name and cls.paper and cls.__doc__ for name, cls in REGISTRY.items())


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("gradnorm", set()),
        ("gradnorm:alpha=1.5", {"gradnorm.alpha"}),
        ("uncertainty+[mgda+every:n=10]+gradnorm:alpha=1,lr=1e-3", {"every.n", "gradnorm.alpha", "gradnorm.lr"}),
    ],
)
def test_what_a_spec_sets_is_known_at_a_default_too(spec, said):
    make(spec)
    assert hyperparameters_said(spec) == said
