"""Our losses by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mtl.losses.binary import Asymmetric, BinaryCrossEntropy, MultiLabel
from mtl.losses.classification import NLL, CrossEntropy, Hinge
from mtl.losses.dense import Cosine, ScaleInvariant
from mtl.losses.distillation import KL
from mtl.losses.exponential import Exponential
from mtl.losses.imbalance import Focal, LogitAdjusted, Poly
from mtl.losses.learned import Learned
from mtl.losses.likelihood import Gaussian, NegativeBinomial, Poisson, Tweedie
from mtl.losses.loss import Loss
from mtl.losses.metric_learning import Contrastive, Triplet
from mtl.losses.overlap import Dice, Lovasz, Tversky
from mtl.losses.pictures import SSIM, Gradient
from mtl.losses.regression import MAE, MSE, Huber, LogCosh, Quantile, SmoothL1
from mtl.losses.taylor import Taylor, TaylorNumbers

#: What each file of losses is about, in the order of the documentation.
FAMILIES: Mapping[str, tuple[type[Loss], ...]] = MappingProxyType(
    {
        "numbers": (MSE, MAE, Huber, SmoothL1, LogCosh, Quantile, Gaussian),
        "counts and amounts": (Poisson, NegativeBinomial, Tweedie, Exponential),
        "one class of several": (CrossEntropy, NLL, Focal, Poly, LogitAdjusted, Hinge),
        "yes or no": (BinaryCrossEntropy, MultiLabel, Asymmetric),
        "regions": (Dice, Tversky, Lovasz),
        "depth and directions": (ScaleInvariant, Cosine),
        "pictures": (Gradient, SSIM),
        "embeddings": (Triplet, Contrastive),
        "a teacher": (KL,),
        "a search over the loss itself": (Taylor, TaylorNumbers),
        "learning while the model trains": (Learned,),
    }
)

LOSSES: Mapping[str, type[Loss]] = MappingProxyType({cls.name: cls for family in FAMILIES.values() for cls in family})
