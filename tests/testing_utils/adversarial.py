"""What generators and discriminators must do beyond every network: take labels, survive saving in mid-training."""

from __future__ import annotations

import torch

from hf_genmodels.loading import load_network
from tests.testing_utils.models import ModelTesterMixin


def assert_same_network(network, reloaded, inputs):
    """Weights and buffers bit for bit; outputs to rounding, which depends on where in memory the weights lie."""
    ours, theirs = network.state_dict(), reloaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    for field, other in zip(network(**inputs, return_dict=False), reloaded(**inputs, return_dict=False), strict=True):
        torch.testing.assert_close(field, other)


class AdversarialTesterMixin(ModelTesterMixin):
    """`ModelTesterMixin` with inputs that may be labels, and with state that training changes besides weights."""

    def labels(self, config, generator, batch=4):
        """{"labels": (batch,)} for a configuration that reads them."""
        if config.get("conditioning", "none") in ("none", "acgan"):
            return {}
        return {"labels": torch.randint(config["num_classes"], (batch,), generator=generator)}

    def image_inputs(self, config, generator):
        """Inputs of a discriminator or an encoder."""
        sample = torch.rand(4, *self.sample_shape(config), generator=generator) * 2 - 1
        return {"sample": sample, **self.labels(config, generator)}

    def latent_inputs(self, config, generator):
        """Inputs of a generator."""
        latents = torch.randn(4, config["latent_dim"], generator=generator)
        return {"latents": latents, **self.labels(config, generator)}

    def test_half_precision_runs(self, case):
        network, inputs = case
        network.to(torch.bfloat16)
        half = {name: value.bfloat16() if value.is_floating_point() else value for name, value in inputs.items()}
        assert all(field.isfinite().all() for field in network(**half, return_dict=False))

    def test_save_and_load_give_the_same_output(self, case, tmp_path):
        network, inputs = case
        network.save_pretrained(str(tmp_path))
        assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}
        assert_same_network(network, load_network(self.model_class, tmp_path), inputs)

    def test_what_training_changed_survives_saving(self, case, tmp_path):
        """Running averages and the vectors of the power iteration as well as weights; and training goes on alike."""
        network, inputs = case
        before = {name: value.clone() for name, value in network.state_dict().items()}
        network.train()
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        for _ in range(2):
            sum(field.square().sum() for field in network(**inputs, return_dict=False)).backward()
            optimizer.step()
        for name, value in network.state_dict().items():
            # the left vector of a single row is 1 for ever
            if "running" in name or (name.endswith(("_u", "_v")) and len(value) > 1):
                assert not torch.equal(value, before[name]), name
        network.save_pretrained(str(tmp_path))
        reloaded = load_network(self.model_class, tmp_path)
        assert_same_network(network.eval(), reloaded, inputs)
        results = [list(each.train()(**inputs, return_dict=False)) for each in (network, reloaded)]
        torch.testing.assert_close(*results)
        torch.testing.assert_close(network.state_dict(), reloaded.state_dict())
