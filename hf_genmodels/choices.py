"""The choices that are both an argument of a network, a loss or an objective and an option of a family; light."""

from typing import Literal

# losses
FGANName = Literal["f_kl", "f_reverse_kl", "f_pearson", "f_squared_hellinger", "f_js"]
GANLossName = Literal["minimax", "non_saturating", "linear_logit", "least_squares", "wasserstein", "hinge", FGANName]
# The losses whose discriminator minimises a cross-entropy, which has labels that can be smoothed.
CROSS_ENTROPIES = ("minimax", "non_saturating", "linear_logit")
# what a generator minimises instead of its part of an adversarial loss
FeatureLoss = Literal["feature_matching"]
GeneratorLoss = Literal["feature_matching", "mmd"]
Penalty = Literal["none", "wgan_gp", "zero_centred", "r1", "r2", "roth"]
# "roth" weighs the gradient of a sample by its logit, of which a patch discriminator has many
PatchPenalty = Literal["none", "wgan_gp", "zero_centred", "r1", "r2"]
# Which penalties a loss can have. The Wasserstein loss needs a Lipschitz critic.
PENALTIES: dict[str, tuple[str, ...]] = {
    "minimax": ("none", "r1", "r2", "zero_centred", "roth"),
    "non_saturating": ("none", "r1", "r2", "zero_centred", "roth"),
    "linear_logit": ("none", "r1", "r2", "zero_centred", "roth"),
    "least_squares": ("none", "r1", "r2", "zero_centred"),
    "wasserstein": ("none", "wgan_gp", "zero_centred"),
    "hinge": ("none", "wgan_gp", "r1", "r2", "zero_centred"),
    "f_kl": ("none", "r1", "r2", "zero_centred"),
    "f_reverse_kl": ("none", "r1", "r2", "zero_centred"),
    "f_pearson": ("none", "r1", "r2", "zero_centred"),
    "f_squared_hellinger": ("none", "r1", "r2", "zero_centred"),
    "f_js": ("none", "r1", "r2", "zero_centred", "roth"),
}
KLEstimator = Literal["closed_form", "sampled"]
TCEstimator = Literal["minibatch_weighted", "minibatch_stratified", "discriminator"]
LatentLoss = Literal["nll_a", "nll_b", "softmax"]
LatentPrior = Literal["gaussian", "mixture"]
PredictionType = Literal["epsilon", "sample", "v_prediction"]
DDPMLoss = Literal["simple", "hybrid", "vlb"]
TimeDistribution = Literal["uniform", "logit_normal"]
ConstraintNoise = Literal["gaussian", "laplacian", "poisson", "beta"]
PixelwiseConditioning = Literal["map", "cgan"]
PixelLoss = Literal["l1", "mse"]
TargetKind = Literal["image", "labels"]
LeftInverse = Literal["authors", "orthogonal"]
ConeLoss = Literal["relu", "proximal"]
CodeRegularizer = Literal["none", "l1", "kl", "contractive"]
Corruption = Literal["none", "gaussian", "masking"]

# networks
TrunkArchitecture = Literal["linear", "mlp", "conv"]
TrunkNorm = Literal["batch", "group", "none"]
Likelihood = Literal["gaussian", "bernoulli", "categorical"]
DiscriminatorNorm = Literal["batch", "instance", "layer", "none", "spectral"]
# what batch norms use in eval mode: running averages, or statistics of the batch (or image) itself
NormStatistics = Literal["running", "batch"]
TranslatorNorm = Literal["batch", "instance", "none"]
TranslatorStatistics = Literal["running", "image"]
# what a translator's last layer makes: each channel by itself in [-1, 1], polarimetric images of light that exists, or
# for each pixel the unnormalised log probability of each class
OutputHead = Literal["tanh", "cone", "logits"]
PolarimetricHead = Literal["tanh", "cone"]
IntensitySource = Literal["learned", "input"]
# what a discriminator of polarimetric images is shown
PolarimetricView = Literal["intensities", "stokes"]
ReceptiveField = Literal[1, 16, 70, 286]
PixelwiseArchitecture = Literal["dcgan", "unet_res", "up_dil", "up_encdec", "unet", "res"]
CovarianceType = Literal["full", "tied", "diag"]
