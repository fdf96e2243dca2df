"""Encoders of other libraries, from this machine's disk alone."""

import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from mtl.models import make_model, make_trunk
from mtl.train import Settings
from mtl.train.model import build_model
from mtl.train.parts import optimizer_groups
from tests.tiny import Tiny

OUTPUTS = {"a": 1, "b": 2}
TEXTS = {"tokens": torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]]), "mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1]])}
SHAPE = {"tokens": (4,), "mask": (4,)}


class Small(nn.Module):
    """What timm's encoders have: pictures to vectors, and their size."""

    num_features = 5

    def __init__(self, in_chans, drop_rate):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, 5, 3), nn.BatchNorm2d(5), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(drop_rate)
        )

    def forward(self, pictures):
        return self.layers(pictures)


@pytest.fixture
def timm(monkeypatch):
    """A timm with one model: the real one needs torchvision."""

    def create_model(name, *, pretrained, num_classes, in_chans, drop_rate):
        assert (name, pretrained, num_classes) == ("small", False, 0)
        return Small(in_chans, drop_rate)

    module = SimpleNamespace(create_model=create_model, is_model=lambda name: name == "small")
    monkeypatch.setitem(sys.modules, "timm", module)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    config = transformers.BertConfig(
        vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    torch.manual_seed(0)
    transformers.BertModel(config).save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("timm")
def test_an_encoder_of_timm_is_a_trunk():
    trunk, features = make_trunk("timm:small,dropout=0.5").build((2, 8, 8))
    assert features == 5 and trunk(torch.randn(3, 2, 8, 8)).shape == (3, 5)
    assert any(isinstance(module, nn.Dropout) and module.p == 0.5 for module in trunk.modules())
    assert str(make_trunk("timm:small,freeze=true")) == "timm:freeze=true,model=small"
    assert make_trunk(str(make_trunk("timm:small,freeze=true"))) == make_trunk("timm:small,freeze=true")


@pytest.mark.usefixtures("timm")
def test_its_parameters_are_read_from_a_file(tmp_path):
    other = Small(2, 0.0)
    file = tmp_path / "small.pth"
    torch.save({**other.state_dict(), "fc.weight": torch.zeros(3, 5)}, file)
    trunk, _ = make_trunk(f"timm:small,weights={file}").build((2, 8, 8))
    torch.testing.assert_close(trunk.encoder.state_dict(), other.state_dict())
    torch.save({"layers.0.weight": torch.zeros(5, 3, 3, 3)}, file)
    for channels, said in ((2, r"'layers\.0\.weight' of small is not in it, or unlike"), (3, r"'layers\.0\.bias'")):
        with pytest.raises(ValueError, match=said):
            make_trunk(f"timm:small,weights={file}").build((channels, 8, 8))


@pytest.mark.usefixtures("timm")
def test_a_frozen_encoder_is_kept_as_it_is():
    model = make_model("hard-sharing", "timm:small,freeze=true", OUTPUTS, torch.zeros(2, 2, 8, 8))
    before = {name: value.clone() for name, value in model.trunk.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    sum(found.square().mean() for found in model.train()(torch.randn(4, 2, 8, 8)).values()).backward()
    optimizer.step()
    torch.testing.assert_close(model.trunk.encoder.state_dict(), before, atol=0, rtol=0)
    assert [p for p in model.shared_parameters() if p.requires_grad] == list(model.trunk.adapter.parameters())
    assert [p for group in model.parameter_groups() for p in group["params"]] == [
        *model.trunk.adapter.parameters(),
        *model.heads.parameters(),
    ]


@pytest.mark.usefixtures("timm")
@pytest.mark.parametrize("architecture", ["hard-sharing", "mmoe:experts=2", "mtan"])
def test_an_encoders_parameters_have_a_rate_of_their_own(architecture):
    model = make_model(architecture, "timm:small,rate_factor=0.2", OUTPUTS, torch.zeros(2, 2, 8, 8))
    groups = {group["rate_factor"]: group["params"] for group in model.parameter_groups()}
    inside = [p for m in model.modules() if isinstance(m, Small) for p in m.parameters()]
    assert {id(p) for p in groups[0.2]} == {id(p) for p in inside}
    assert {id(p) for p in groups[1.0]} == {id(p) for p in model.parameters()} - {id(p) for p in inside}


@pytest.mark.usefixtures("timm")
def test_training_steps_an_encoder_by_its_own_rate():
    class Pictures(Tiny):
        trunk = "timm:small"

    inputs = torch.zeros(2, 2, 8, 8)
    settings = Settings(model="timm:small,rate_factor=0.1", lr=0.5, head_lr=0.2)
    model = build_model(Pictures(), Tiny.tasks, inputs, settings)
    rates = {id(parameter): group["lr"] for group in optimizer_groups(model, settings) for parameter in group["params"]}
    assert {rates[id(p)] for p in model.trunk.encoder.parameters()} == {0.05}
    assert {rates[id(p)] for p in model.heads.parameters()} == {0.2}
    assert len(rates) == len([*model.parameters()])


def test_without_an_encoder_there_is_one_group():
    model = make_model("cgc", "mlp:width=4", OUTPUTS, torch.zeros(2, 3))
    (group,) = model.parameter_groups()
    assert group == {"params": list(model.parameters()), "rate_factor": 1.0}


@pytest.mark.parametrize("pool", ["mean", "first"])
def test_an_encoder_of_hugging_face_is_a_trunk(bert, pool):
    import transformers

    trunk, features = make_trunk(f"hf:{bert},pool={pool}").build(SHAPE)
    trunk.eval()
    encoder = transformers.BertModel.from_pretrained(bert).eval()
    vectors = encoder(input_ids=TEXTS["tokens"], attention_mask=TEXTS["mask"]).last_hidden_state
    wanted = torch.stack([vectors[0, :2].mean(0), vectors[1].mean(0)]) if pool == "mean" else vectors[:, 0]
    assert features == 8
    torch.testing.assert_close(trunk(TEXTS), wanted)


def test_its_dropout_is_set_and_architectures_take_it(bert):
    trunk, _ = make_trunk(f"hf:{bert},dropout=0.25").build(SHAPE)
    assert {m.p for m in trunk.modules() if isinstance(m, nn.Dropout)} == {0.25}
    for architecture in ("mmoe:experts=2", "cross-stitch"):
        assert make_model(architecture, f"hf:{bert}", OUTPUTS, TEXTS)(TEXTS)["b"].shape == (2, 2)


@pytest.mark.parametrize(
    ("spec", "shape", "message"),
    [
        ("timm:other", (2, 8, 8), "timm:other: timm has no such model"),
        (
            "timm:small,weights=no.pth",
            (2, 8, 8),
            "weights=no.pth: there is no such file, and weights are never downloaded",
        ),
        ("timm:small", (8,), "timm: inputs have shape (8,)"),
        ("hf:bert-base-uncased", SHAPE, "hf:bert-base-uncased: there is no config.json in this folder"),
        ("hf", (4,), "hf:: there is no config.json"),
        ("hf:x", (1, 8, 8), "hf: inputs have shape (1, 8, 8); token ids"),
    ],
)
@pytest.mark.usefixtures("timm")
def test_what_is_not_there_is_named_and_not_downloaded(spec, shape, message):
    with pytest.raises(ValueError) as caught:
        make_trunk(spec).build(shape)
    assert message in str(caught.value)


def test_a_folder_without_parameters_is_refused(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="the folder has no parameters"):
        make_trunk(f"hf:{tmp_path}").build(SHAPE)


@pytest.mark.parametrize(("spec", "package"), [("timm:small", "timm"), ("hf", "transformers")])
def test_a_library_that_is_not_installed_is_named(monkeypatch, tmp_path, spec, package):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("")
    spec, shape = (spec, (2, 8, 8)) if package == "timm" else (f"hf:{tmp_path}", SHAPE)
    with pytest.raises(ValueError, match=rf"{package!r} is not installed.*mtl-lab\[encoders\]"):
        make_trunk(spec).build(shape)
