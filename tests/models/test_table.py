import pytest
import torch

from mtl.benchmarks.tables import encoded
from mtl.models import make_model, make_trunk
from mtl.population import Population

CODES = {"codes": torch.tensor([[0, 3], [1, 4], [2, 3]]), "numbers": torch.tensor([[0.5], [-1.0], [2.0]])}


def test_words_are_looked_up_and_joined_with_numbers():
    trunk, size = make_trunk("table:codes=5,embedding=2,width=7,depth=1").build({"codes": (2,), "numbers": (1,)})
    embedded, layer, _ = trunk
    rows = [
        torch.cat([embedded.table.weight[a], embedded.table.weight[b], x])
        for (a, b), x in zip(*CODES.values(), strict=True)
    ]
    torch.testing.assert_close(trunk(CODES), torch.stack(rows).matmul(layer.weight.T).add(layer.bias).relu())
    assert size == 7
    alone, _ = make_trunk("table:codes=5,embedding=2").build({"codes": (2,)})
    assert alone({"codes": CODES["codes"]}).shape == (3, 128)


@pytest.mark.parametrize("shape", [(3,), {"numbers": (2,)}, {"codes": (2,), "words": (1,)}, {"codes": (2, 2)}])
def test_other_inputs_are_refused_in_one_line(shape):
    with pytest.raises(ValueError, match="table: inputs have shape") as caught:
        make_trunk("table").build(shape)
    assert "\n" not in str(caught.value)


def test_members_on_a_table_are_single_runs():
    def model():
        return make_model("hard-sharing", "table:codes=5,embedding=2,width=8", {"a": 1, "b": 1}, CODES).double()

    def losses(model, batch):
        return {name: guess.square().mean() for name, guess in model(batch).items()}

    batch = {"codes": CODES["codes"], "numbers": CODES["numbers"].double()}
    population = Population(model, losses, "equal", [0, 1], optimizer="sgd", lr=0.1, scale="raw")
    both = {name: torch.stack([value, value]) for name, value in batch.items()}
    for _ in range(5):
        population.step(both)
    for member in range(2):
        torch.manual_seed(member)
        alone = model()
        optimizer = torch.optim.SGD(alone.parameters(), lr=0.1)
        for _ in range(5):
            optimizer.zero_grad()
            sum(losses(alone, batch).values()).backward()
            optimizer.step()
        for name, value in population.state_dict_of(member).items():
            torch.testing.assert_close(value, alone.state_dict()[name])


def test_codes_are_those_of_the_training_rows_and_numbers_are_scaled_by_them():
    words = {"colour": ["red", "blue", "red", "green"], "size": ["s", "s", "m", "l"]}
    numbers = {"age": [1.0, 3.0, 5.0, float("nan")]}
    table = encoded(words, numbers, torch.tensor([0, 1, 2]))
    # Column by column: 0 for what training rows do not have, then the words in order.
    assert table.inputs["codes"].tolist() == [[2, 5], [1, 5], [2, 4], [0, 3]] and table.size == 6
    torch.testing.assert_close(table.inputs["numbers"][:, 0], torch.tensor([-1.0, 0.0, 1.0, 0.0]) * 1.5**0.5)
    rare = encoded(words, {}, torch.tensor([0, 1, 2]), fewest=2)
    assert rare.inputs["codes"].tolist() == [[1, 3], [0, 3], [1, 2], [0, 2]] and "numbers" not in rare.inputs
