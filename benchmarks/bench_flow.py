"""What a training step and sampling of flows cost here, hand-written in plain PyTorch, and in other libraries.

    pip install "hf_genmodels[bench]"
    python benchmarks/bench_flow.py [--rounds 60] [--threads 2] [--only_sampling]

Glow     3x32x32, K = 8, L = 3, hidden 128, batch 16: our loop, our network in a loop by hand, and the same layers of
         nflows and normflows in that loop (images already dequantised).
RealNVP  64 numbers, 8 couplings with two hidden layers of 128, batch 256: our loop, and by hand, nflows, normflows and
         zuko in a loop by hand.
Sampling 16 images and 256 points: a call of the pipeline, the network alone without and with log-determinants, and a
         sampler by hand without; the other libraries' compute them.

What is compared alternates step by step in one process; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import nflows.distributions
import nflows.flows
import nflows.nn.nets
import nflows.transforms
import normflows
import numpy as np
import torch
import zuko
from timing import interleave, make_loop, report, report_log_cost
from torch import Tensor, nn

from hf_genmodels import DataSpec, FlowPipeline, Glow
from hf_genmodels.data import LoadedData
from hf_genmodels.data.sets import ArrayDataset
from hf_genmodels.families.flow import FlowArguments

IMAGES, GLOW_BATCH, STEPS_K, SCALES_L, CHANNELS = (3, 32, 32), 16, 8, 3, 128
DIM, VECTOR_BATCH, COUPLINGS, HIDDEN, SCALE_LIMIT = 64, 256, 8, 128, 2.0
NUM_EXAMPLES, RATE = 2048, 1e-3
Run = Callable[[], object]


def held_in_memory(values: np.ndarray, size: tuple[int, int] | None) -> LoadedData:
    """Random examples as a data set."""
    scale = 1.0 if size is None else 255.0
    spec = DataSpec("noise", values.shape[1], size, scale, None, len(values), "0" * 12)
    return LoadedData(spec, ArrayDataset(values, spec, None, random_flip=False), None, None)


def shuffled(values: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Batches for ever."""
    while True:
        for rows in torch.randperm(len(values)).split(batch_size):
            yield values[rows]


def train_by_hand(network: nn.Module, negative_log_likelihood: Callable[[Tensor], Tensor], batches: Iterator) -> Run:
    """A step of Adam on the mean of (batch,) losses."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.0, fused=True)

    def step() -> None:
        loss = negative_log_likelihood(next(batches)).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def report_sampling(samplers: dict[str, Run], rounds: int) -> None:
    """Print medians and ratios to the hand-written sampler."""
    with torch.no_grad():
        report(interleave(samplers, rounds), [(name, "by hand") for name in samplers if name != "by hand"])


# Glow ----------------------------------------------------------------------------------------------------------------


def dequantised(pixels: Tensor) -> Iterator[Tensor]:
    """Batches of 8-bit images in [-1/2, 1/2)."""
    for batch in shuffled(pixels, GLOW_BATCH):
        yield (batch.float() + torch.rand(batch.shape)) / 256 - 0.5


def nflows_glow() -> nn.Module:
    """Squeezes, ActNorm, 1x1 convolutions and affine couplings of nflows; its blocks are residual networks."""
    transforms = nflows.transforms
    channels, size = IMAGES[0], IMAGES[1]
    multiscale = transforms.MultiscaleCompositeTransform(num_transforms=SCALES_L)
    for scale in range(SCALES_L):
        channels, size = channels * 4, size // 2
        layers: list[nn.Module] = [transforms.SqueezeTransform()]
        for _ in range(STEPS_K):
            layers += [transforms.ActNorm(channels), transforms.OneByOneConvolution(channels)]
            mask = torch.cat([-torch.ones(channels // 2), torch.ones(channels // 2)])
            layers.append(transforms.AffineCouplingTransform(mask, conv_network))
        shape = multiscale.add_transform(transforms.CompositeTransform(layers), (channels, size, size))
        if scale < SCALES_L - 1:
            channels = shape[0]
    return multiscale


def conv_network(in_channels: int, out_channels: int) -> nn.Module:
    """The coupling network of Glow."""
    return WithContext(
        nn.Conv2d(in_channels, CHANNELS, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 1),
        nn.ReLU(),
        nn.Conv2d(CHANNELS, out_channels, 3, padding=1),
    )


class WithContext(nn.Sequential):
    """nflows hands its networks a context that is None here."""

    def forward(self, sample: Tensor, context: None = None) -> Tensor:
        output: Tensor = super().forward(sample)
        return output


def normflows_glow() -> nn.Module:
    """The multi-scale Glow of normflows' own example, unconditional."""
    flows, merges, bases = [], [], []
    for scale in range(SCALES_L):
        channels = IMAGES[0] * 2 ** (SCALES_L + 1 - scale)
        blocks = [normflows.flows.GlowBlock(channels, CHANNELS, split_mode="channel") for _ in range(STEPS_K)]
        flows.append([*blocks, normflows.flows.Squeeze()])
        size = IMAGES[1] // 2 ** (SCALES_L - scale)
        if scale > 0:
            merges.append(normflows.flows.Merge())
            shape = (channels // 2, size, size)
        else:
            shape = (channels, size, size)
        bases.append(normflows.distributions.DiagGaussian(shape))
    return normflows.MultiscaleFlow(bases, flows, merges, class_cond=False)


class PlainGlow(nn.Module):
    """The sampler of a multi-scale Glow, as one would write it for a single use: a matrix and its inverse a step."""

    def __init__(self) -> None:
        super().__init__()
        self.scales = nn.ModuleList()
        self.priors = nn.ModuleList()
        channels, size = IMAGES[0], IMAGES[1]
        for scale in range(SCALES_L):
            channels, size = channels * 4, size // 2
            self.scales.append(nn.ModuleList(PlainGlowStep(channels) for _ in range(STEPS_K)))
            if scale < SCALES_L - 1:
                channels //= 2
                self.priors.append(nn.Conv2d(channels, 2 * channels, 3, padding=1))
        self.shape = (channels, size, size)
        self.mean, self.log_std = nn.Parameter(torch.zeros(self.shape)), nn.Parameter(torch.zeros(self.shape))

    def sample(self, count: int) -> Tensor:
        """(count, *IMAGES) in [-1, 1], rounded to grey levels."""
        sample = torch.randn(count, *self.shape) * torch.exp(self.log_std) + self.mean
        for index in reversed(range(SCALES_L)):
            for step in reversed(self.scales[index]):
                sample = step.inverse(sample)
            sample = nn.functional.pixel_shuffle(sample, 2)
            if index > 0:
                raw, shift = self.priors[index - 1](sample).chunk(2, dim=1)
                scale = torch.exp(-SCALE_LIMIT * torch.tanh(raw / SCALE_LIMIT))
                sample = torch.cat([sample, (torch.randn_like(sample) - shift) * scale], dim=1)
        return ((sample + 0.5) * 256).floor().clamp(0, 255) / 255 * 2 - 1


class PlainGlowStep(nn.Module):
    """ActNorm, 1x1 convolution, affine coupling."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias, self.log_scale = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])
        self.network = nn.Sequential(
            nn.Conv2d(channels // 2, CHANNELS, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(CHANNELS, CHANNELS, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(CHANNELS, channels, 3, padding=1),
        )

    def inverse(self, latents: Tensor) -> Tensor:
        kept, changed = latents.chunk(2, dim=1)
        raw, shift = self.network(kept).chunk(2, dim=1)
        restored = (changed - shift) * torch.exp(-SCALE_LIMIT * torch.tanh(raw / SCALE_LIMIT))
        mixed = torch.cat([kept, restored], dim=1)
        sample = nn.functional.conv2d(mixed, torch.linalg.inv(self.weight)[:, :, None, None])
        return sample * torch.exp(-self.log_scale)[:, None, None] - self.bias[:, None, None]


def compare_glow(folder: Path, rounds: int, threads: int, trains: bool) -> None:
    """Print the tables of Glow's step, if asked for, and of its sampling."""
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_EXAMPLES, *IMAGES), dtype=np.uint8)
    options = FlowArguments(architecture="glow", num_flow_steps=STEPS_K, num_scales=SCALES_L, hidden_channels=CHANNELS)
    data = held_in_memory(pixels, IMAGES[1:])
    ours = make_loop("flow", options, data, folder, threads, GLOW_BATCH, learning_rate=RATE)
    torch.manual_seed(0)
    networks: dict[str, nn.Module] = {
        "by hand": Glow(IMAGES[0], IMAGES[1], num_flow_steps=STEPS_K, num_scales=SCALES_L, hidden_channels=CHANNELS),
        "nflows": nflows.flows.Flow(nflows_glow(), nflows.distributions.StandardNormal([math.prod(IMAGES)])),
        "normflows": normflows_glow(),
    }
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "by hand": lambda x: -networks["by hand"](x).log_likelihood,
        "nflows": lambda x: -networks["nflows"].log_prob(x),
        "normflows": lambda x: -networks["normflows"].log_prob(x, None),
    }
    runs: dict[str, Run] = {"library": ours.training_step}
    for name, network in networks.items():
        batches = dequantised(torch.from_numpy(pixels))
        first = next(batches)
        network.initialize(first, None, lambda mean: mean) if name == "by hand" else losses[name](first)
        runs[name] = train_by_hand(network, losses[name], batches)
    if trains:
        print("Glow, a training step")
        for name, network in {"library": ours.networks["flow"], **networks}.items():
            print(f"{name}: {sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters")
        seconds = interleave(runs, rounds)
        report(seconds, [("library", "by hand"), ("library", "nflows"), ("library", "normflows")])
        report_log_cost(ours, seconds["library"])

    flow, plain = ours.networks["flow"].eval(), PlainGlow()
    pipeline = FlowPipeline(flow)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
    samplers: dict[str, Run] = {
        "pipeline": lambda: pipeline(batch_size=GLOW_BATCH, output_type="pt"),
        "network": lambda: flow.generate(torch.randn(GLOW_BATCH, flow.dim)),
        "network with log-determinants": lambda: flow.inverse(torch.randn(GLOW_BATCH, flow.dim)),
        "by hand": lambda: plain.sample(GLOW_BATCH),
        "nflows": lambda: networks["nflows"].sample(GLOW_BATCH),
        "normflows": lambda: networks["normflows"].sample(GLOW_BATCH),
    }
    print(f"Glow, {GLOW_BATCH} samples; by hand and in the pipeline without log-determinants")
    report_sampling(samplers, rounds)


# RealNVP of vectors --------------------------------------------------------------------------------------------------


class PlainRealNVP(nn.Module):
    """Affine couplings of alternating halves, as one would write them for a single use."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = nn.ModuleList(mlp(DIM // 2, DIM) for _ in range(COUPLINGS))

    def forward(self, sample: Tensor) -> Tensor:
        """Negative log-likelihood, (batch,)."""
        kept, changed = sample.chunk(2, dim=1)
        log_det = sample.new_zeros(len(sample))
        for network in self.networks:
            raw, shift = network(kept).chunk(2, dim=1)
            log_scale = SCALE_LIMIT * torch.tanh(raw / SCALE_LIMIT)
            kept, changed = changed * torch.exp(log_scale) + shift, kept
            log_det = log_det + log_scale.sum(1)
        squares = kept.square().sum(1) + changed.square().sum(1)
        return 0.5 * squares + 0.5 * DIM * math.log(2 * math.pi) - log_det

    def sample(self, count: int) -> Tensor:
        """(count, DIM)."""
        kept, changed = torch.randn(count, DIM).chunk(2, dim=1)
        for network in reversed(self.networks):
            raw, shift = network(changed).chunk(2, dim=1)
            kept, changed = changed, (kept - shift) * torch.exp(-SCALE_LIMIT * torch.tanh(raw / SCALE_LIMIT))
        return torch.cat([kept, changed], dim=1)


def mlp(in_features: int, out_features: int) -> nn.Sequential:
    """Two hidden layers."""
    first, last = nn.Linear(in_features, HIDDEN), nn.Linear(HIDDEN, out_features)
    return nn.Sequential(first, nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), last)


def nflows_realnvp() -> nn.Module:
    """Couplings with alternating masks."""

    def network(in_features: int, out_features: int) -> nn.Module:
        return WithContext(*mlp(in_features, out_features))

    masks = [torch.cat([sign * torch.ones(DIM // 2), -sign * torch.ones(DIM // 2)]) for sign in (1, -1)]
    couplings = [nflows.transforms.AffineCouplingTransform(masks[i % 2], network) for i in range(COUPLINGS)]
    return nflows.flows.Flow(
        nflows.transforms.CompositeTransform(couplings), nflows.distributions.StandardNormal([DIM])
    )


def normflows_realnvp() -> nn.Module:
    """Couplings, each followed by an exchange of the halves."""
    flows: list[nn.Module] = []
    for _ in range(COUPLINGS):
        network = normflows.nets.MLP([DIM // 2, HIDDEN, HIDDEN, DIM])
        flows += [normflows.flows.AffineCouplingBlock(network), normflows.flows.Permute(DIM, mode="swap")]
    return normflows.NormalizingFlow(normflows.distributions.DiagGaussian(DIM, trainable=False), flows)


def compare_realnvp(folder: Path, rounds: int, threads: int, trains: bool) -> None:
    """Print the tables of RealNVP's step, if asked for, and of its sampling."""
    points = np.random.default_rng(0).standard_normal((NUM_EXAMPLES, DIM)).astype(np.float32)
    options = FlowArguments(architecture="realnvp", num_flow_steps=COUPLINGS, hidden_dims=[HIDDEN, HIDDEN])
    data = held_in_memory(points, None)
    ours = make_loop("flow", options, data, folder, threads, VECTOR_BATCH, learning_rate=RATE, max_grad_norm=None)
    torch.manual_seed(0)
    plain = PlainRealNVP()
    others = {
        "nflows": nflows_realnvp(),
        "normflows": normflows_realnvp(),
        "zuko": zuko.flows.RealNVP(DIM, transforms=COUPLINGS, hidden_features=(HIDDEN, HIDDEN)),
    }
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "nflows": lambda x: -others["nflows"].log_prob(x),
        "normflows": lambda x: -others["normflows"].log_prob(x),
        "zuko": lambda x: -others["zuko"]().log_prob(x),
    }
    values = torch.from_numpy(points)
    runs: dict[str, Run] = {"library": ours.training_step}
    runs["by hand"] = train_by_hand(plain, plain, shuffled(values, VECTOR_BATCH))
    for name, network in others.items():
        runs[name] = train_by_hand(network, losses[name], shuffled(values, VECTOR_BATCH))
    if trains:
        print("RealNVP, a training step")
        seconds = interleave(runs, rounds)
        report(seconds, [(name, "by hand") for name in runs if name != "by hand"])
        report_log_cost(ours, seconds["library"])

    flow = ours.networks["flow"].eval()
    pipeline = FlowPipeline(flow)
    samplers: dict[str, Run] = {
        "pipeline": lambda: pipeline(batch_size=VECTOR_BATCH),
        "network": lambda: flow.generate(torch.randn(VECTOR_BATCH, DIM)),
        "network with log-determinants": lambda: flow.inverse(torch.randn(VECTOR_BATCH, DIM)),
        "by hand": lambda: plain.sample(VECTOR_BATCH),
        "nflows": lambda: others["nflows"].sample(VECTOR_BATCH),
        "normflows": lambda: others["normflows"].sample(VECTOR_BATCH),
        "zuko": lambda: others["zuko"]().sample((VECTOR_BATCH,)),
    }
    print(f"RealNVP, {VECTOR_BATCH} samples; by hand and in the pipeline without log-determinants")
    report_sampling(samplers, rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60, help="steps of each (RealNVP: ten times as many)")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only_sampling", action="store_true", help="leave the training steps out")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    with tempfile.TemporaryDirectory() as name:
        compare_glow(Path(name), args.rounds, args.threads, not args.only_sampling)
        compare_realnvp(Path(name), 10 * args.rounds, args.threads, not args.only_sampling)


if __name__ == "__main__":
    main()
