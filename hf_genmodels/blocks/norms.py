"""Instance normalisation that keeps the memory format of what it is given, and what norms mean for batches.

PyTorch's own instance norm copies a channels-last map, returns it in the default format, and leaves it to the next
convolution to copy it back. On a CPU it returns a wrong gradient (torch 2.13) where a single image's incoming gradient
is channels-last and the image is not. In the default format group normalisation with as many groups as channels, the
same function, is faster there (Ulyanov et al. 2016, arXiv 1607.08022; Wu & He 2018, arXiv 1803.08494).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.utils.parametrizations import _SpectralNorm

from ..errors import UserError

# Beyond a CPU a call for each image is worth its launch for few images only.
FEW_IMAGES = 4


class InstanceNorm2d(nn.InstanceNorm2d):
    """`nn.InstanceNorm2d` of (batch, channels, height, width), without running averages; see `instance_norm`.

    Args:
        num_features: Channels.
        eps: Added to the variance.
        affine: Learn a gain and a shift for each channel.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, affine: bool = False) -> None:
        super().__init__(num_features, eps, affine=affine)

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, height, width) -> the same shape and memory format.

        Raises:
            UserError: Another shape, or another number of channels.
        """
        if input.ndim != 4 or input.shape[1] != self.num_features:
            raise UserError(
                f"instance norm takes (batch, {self.num_features}, height, width), got {tuple(input.shape)}"
            )
        return instance_norm(input, self.weight, self.bias, self.eps)


def instance_norm(hidden: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Each map of each image by its own mean and variance.

    Args:
        hidden: (batch, channels, height, width), more than one pixel.
        weight: Gain of each channel, if any.
        bias: Shift of each channel, if any.
        eps: Added to the variance.

    Returns:
        As `hidden`, in its memory format; statistics are float32 at least.
    """
    # A compiler fuses what it knows by its own name, and so do runtimes of exported networks.
    if torch.compiler.is_compiling() or hidden.shape[2:].numel() == 1:
        return F.instance_norm(hidden, weight=weight, bias=bias, eps=eps)
    is_cpu = hidden.device.type == "cpu"
    is_channels_last = hidden.is_contiguous(memory_format=torch.channels_last) and not hidden.is_contiguous()
    if is_channels_last and (is_cpu or len(hidden) <= FEW_IMAGES):
        return _batch_norm_of_each(hidden, weight, bias, eps)
    if is_cpu:
        return F.group_norm(hidden, hidden.shape[1], weight, bias, eps)
    return F.instance_norm(hidden, weight=weight, bias=bias, eps=eps)


def _batch_norm_of_each(hidden: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    """Instance norm as a batch norm of every image, which keeps the memory format."""
    if hidden.dtype in (torch.bfloat16, torch.float16):
        # with gain and shift in float32 nothing but the result is rounded to 16 bits
        weight = hidden.new_ones(hidden.shape[1], dtype=torch.float32) if weight is None else weight.float()
        bias = torch.zeros_like(weight) if bias is None else bias.float()
    images = [F.batch_norm(image, None, None, weight, bias, True, 0.0, eps) for image in hidden.split(1)]
    return images[0] if len(images) == 1 else torch.cat(images)


def keeps_rows_apart(network: nn.Module) -> bool:
    """Whether a row's output is the same in whatever batch it comes, in training mode too, and a pass leaves no trace.

    Then several batches may go through the network as one. Batch norms mix rows; what dropout leaves out depends on a
    row's place; running averages and the singular vectors of a spectral norm change with each pass, and a hook may do
    anything. What a `forward` does by functions alone is not seen.
    """
    for module in network.modules():
        if isinstance(module, _BatchNorm | _SpectralNorm) or module._forward_hooks or module._forward_pre_hooks:
            return False
        if isinstance(module, _NormBase) and module.track_running_stats:
            return False
        if isinstance(module, _DropoutNd) and module.p > 0:
            return False
    return True


class RowsApart:
    """The attribute `rows_are_independent` of a class whose `forward` leaves the rows to its layers.

    It is `keeps_rows_apart` for the class that has it, and False for subclasses, whose `forward` may be another.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.owner = owner

    def __get__(self, network: nn.Module | None, kind: type) -> bool:
        return network is not None and kind is self.owner and keeps_rows_apart(network)
