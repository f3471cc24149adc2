"""What every network must do: reload, repeat itself, give every parameter a gradient, speak both output forms."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from diffusers import ModelMixin

from hf_genmodels.loading import load_network


class ModelTesterMixin:
    """Set `model_class` and `configs` (arguments of the constructor), and define `inputs`."""

    model_class: ClassVar[type[ModelMixin]]
    configs: ClassVar[tuple[dict[str, Any], ...]]

    def inputs(self, config: dict[str, Any], generator: torch.Generator) -> dict[str, torch.Tensor]:
        """Arguments of `forward` for a network of this configuration."""
        raise NotImplementedError

    @staticmethod
    def sample_shape(config: dict[str, Any]) -> tuple[int, ...]:
        """Shape of one sample of a configuration."""
        channels, size = config.get("in_channels", 1), config["sample_size"]
        return (channels,) if size is None else (channels, size, size)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "case" in metafunc.fixturenames:
            metafunc.parametrize("case", range(len(self.configs)), indirect=True)

    @pytest.fixture
    def case(self, request):
        """A seeded network in eval mode and inputs for it, for each configuration."""
        config = self.configs[request.param]
        torch.manual_seed(0)
        network = self.model_class(**config)
        return network.eval(), self.inputs(config, torch.Generator().manual_seed(1))

    def test_save_and_load_give_the_same_output(self, case, tmp_path):
        network, inputs = case
        network.save_pretrained(str(tmp_path))
        assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
        reloaded = load_network(self.model_class, tmp_path)
        for ours, theirs in zip(
            network(**inputs, return_dict=False), reloaded(**inputs, return_dict=False), strict=True
        ):
            assert torch.equal(ours, theirs)

    def test_tuple_and_named_output_agree(self, case):
        network, inputs = case
        named = network(**inputs)
        for ours, theirs in zip(network(**inputs, return_dict=False), named.to_tuple(), strict=True):
            assert torch.equal(ours, theirs)

    def test_every_parameter_gets_a_gradient(self, case):
        network, inputs = case
        network.train()
        loss = sum(field.square().sum() for field in network(**inputs, return_dict=False))
        loss.backward()
        without = [name for name, parameter in network.named_parameters() if parameter.grad is None]
        assert not without

    def test_half_precision_runs(self, case):
        network, inputs = case
        network.to(torch.bfloat16)
        outputs = network(**{name: value.to(torch.bfloat16) for name, value in inputs.items()}, return_dict=False)
        assert all(field.isfinite().all() for field in outputs)
