"""Task losses, with their own hyperparameters, and the constant prediction that is best under each.

`make_loss` makes one from a spec, `suggest` says which fit given labels, `check_loss` tests one, ours or anyone's.
"""

from mtl.losses.binary import Asymmetric, BinaryCrossEntropy, MultiLabel
from mtl.losses.check import Checked, Finding, check_loss
from mtl.losses.classification import NLL, CrossEntropy, Hinge
from mtl.losses.constant import constant_prediction, over_outputs, takes_classes
from mtl.losses.dense import Cosine, ScaleInvariant
from mtl.losses.distillation import KL
from mtl.losses.exponential import Exponential
from mtl.losses.imbalance import Focal, LogitAdjusted, Poly
from mtl.losses.labels import IGNORE
from mtl.losses.learned import Learned
from mtl.losses.learned_loss import LearnedLoss
from mtl.losses.likelihood import Gaussian, NegativeBinomial, Poisson, Tweedie
from mtl.losses.loss import Loss, TaskLoss, Terms, loss_of, losses_of, measure_of
from mtl.losses.metric_learning import Contrastive, Triplet
from mtl.losses.overlap import Dice, Lovasz, Tversky
from mtl.losses.pictures import SSIM, Gradient
from mtl.losses.registry import FAMILIES, LOSSES
from mtl.losses.regression import MAE, MSE, Huber, LogCosh, Quantile, SmoothL1
from mtl.losses.spec import loss_class, make_loss
from mtl.losses.suggest import Suggested, Suggestion, suggest
from mtl.losses.taylor import Taylor, TaylorNumbers

__all__ = [
    "FAMILIES",
    "IGNORE",
    "KL",
    "LOSSES",
    "MAE",
    "MSE",
    "NLL",
    "SSIM",
    "Asymmetric",
    "BinaryCrossEntropy",
    "Checked",
    "Contrastive",
    "Cosine",
    "CrossEntropy",
    "Dice",
    "Exponential",
    "Finding",
    "Focal",
    "Gaussian",
    "Gradient",
    "Hinge",
    "Huber",
    "Learned",
    "LearnedLoss",
    "LogCosh",
    "LogitAdjusted",
    "Loss",
    "Lovasz",
    "MultiLabel",
    "NegativeBinomial",
    "Poisson",
    "Poly",
    "Quantile",
    "ScaleInvariant",
    "SmoothL1",
    "Suggested",
    "Suggestion",
    "TaskLoss",
    "Taylor",
    "TaylorNumbers",
    "Terms",
    "Triplet",
    "Tversky",
    "Tweedie",
    "check_loss",
    "constant_prediction",
    "loss_class",
    "loss_of",
    "losses_of",
    "make_loss",
    "measure_of",
    "over_outputs",
    "suggest",
    "takes_classes",
]
