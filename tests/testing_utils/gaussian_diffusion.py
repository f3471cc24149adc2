"""Diffusion of Gaussian data: the best possible denoiser, and inverse problems with it by dense matrices."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel


class GaussianUNet(UNet2DModel):
    """What the best possible network predicts where the data are N(mean, std^2 I), in [-1, 1]'s units."""

    def prepare(self, mean: torch.Tensor, std: float, scheduler: DDPMScheduler) -> GaussianUNet:
        self.mean, self.std, self.scheduler = mean, std, scheduler
        return self

    def gain(self, timestep: int) -> float:
        """Of x0_hat = mean + gain * (x_t - sqrt(alpha_bar) mean), by the regression of x0 on x_t."""
        alpha_bar = self.scheduler.alphas_cumprod[timestep].item()
        return alpha_bar**0.5 * self.std**2 / (alpha_bar * self.std**2 + 1 - alpha_bar)

    def forward(self, sample, timestep, return_dict=True):
        alpha_bar = self.scheduler.alphas_cumprod[timestep].item()
        denoised = self.mean + self.gain(timestep) * (sample - alpha_bar**0.5 * self.mean)
        epsilon = (sample - alpha_bar**0.5 * denoised) / (1 - alpha_bar) ** 0.5
        velocity = alpha_bar**0.5 * epsilon - (1 - alpha_bar) ** 0.5 * denoised
        predictions = {"epsilon": epsilon, "sample": denoised, "v_prediction": velocity}
        predicted = predictions[self.scheduler.config.prediction_type]
        return SimpleNamespace(sample=predicted) if return_dict else (predicted,)


class Reference:
    """Both methods for a Gaussian prior with matrices in float64; the denoiser's Jacobian is `gain` times I.

    One vector of 64 numbers is an image in [-1, 1]; `operator` acts on images in [0, 1].
    """

    def __init__(self, pipe, operator, measurement, num_inference_steps, noise_std=0.0, step_size=1.0, prior_std=0.25):
        self.unet, self.operator, self.measurement = pipe.unet, operator, measurement.double()
        self.mean, self.step_size, self.noise_std = pipe.unet.mean.flatten().double(), step_size, 2 * noise_std
        self.prior_std = prior_std
        ddim = DDIMScheduler.from_config(pipe.scheduler.config)
        ddim.set_timesteps(num_inference_steps)
        self.timesteps = ddim.timesteps.tolist()
        self.alpha_bars = [*(ddim.alphas_cumprod[t].item() for t in self.timesteps), 1.0]

    def matrix(self):
        """Of a linear operator; it is the same for images in [-1, 1], whose measurement is y - (y of grey)."""
        return self.operator(torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)).flatten(1).T

    def target(self):
        return 2 * self.measurement.flatten() - self.matrix().sum(1)

    def pigdm_maps(self):
        """Of each step, the matrix and vector that give x0_hat, guided, from x_t; and the noise levels.

        x0_hat moves by (1 - alpha_bar) / sqrt(alpha_bar) score, which is that of N(A x0_hat, r^2 A A^T + noise^2).
        """
        dense, target = self.matrix(), self.target()
        for timestep, now, after in zip(self.timesteps, self.alpha_bars, self.alpha_bars[1:], strict=False):
            gain = self.unet.gain(timestep)
            precision = 1 / self.prior_std**2 + now / (1 - now)  # of x0 given x_t, by Bayes' rule
            spread = dense @ dense.T / precision + self.noise_std**2 * torch.eye(len(dense))
            # without noise, A A^T of masked pixels has no inverse
            inverse = torch.linalg.inv(spread) if self.noise_std else torch.linalg.pinv(spread, rtol=1e-9)
            to_score = gain * dense.T @ inverse
            guide = (1 - now) / now**0.5 * self.step_size * to_score
            matrix = gain * (torch.eye(64) - guide @ dense)
            constant = (1 - gain * now**0.5) * self.mean
            yield matrix, constant + guide @ (target - dense @ constant), now, after

    def ddim(self, sample, denoised, now, after):
        """Mean of eq. 12 of DDIM with eta = 1, and its standard deviation, eq. 16."""
        std = ((1 - after) / (1 - now) * (1 - now / after)) ** 0.5
        noise = (sample - now**0.5 * denoised) / (1 - now) ** 0.5
        return after**0.5 * denoised + (1 - after - std**2) ** 0.5 * noise, std

    def pigdm(self, noises):
        sample = noises[0]
        for (matrix, constant, now, after), noise in zip(self.pigdm_maps(), noises[1:], strict=True):
            mean, std = self.ddim(sample, sample @ matrix.T + constant, now, after)
            sample = mean + std * noise
        return sample

    def pigdm_moments(self):
        """Mean and covariance of what `pigdm` gives for standard normal noises."""
        mean, covariance = torch.zeros(64, dtype=torch.float64), torch.eye(64, dtype=torch.float64)
        for matrix, constant, now, after in self.pigdm_maps():
            mean, std = self.ddim(mean, matrix @ mean + constant, now, after)
            linear, _ = self.ddim(torch.eye(64), matrix, now, after)
            covariance = linear @ covariance @ linear.T + std**2 * torch.eye(64)
        return mean, covariance

    def posterior(self):
        """Mean and covariance of x given y."""
        dense, variance = self.matrix(), self.unet.std**2
        covariance = torch.linalg.inv(torch.eye(64) / variance + dense.T @ dense / self.noise_std**2)
        residual = self.target() - dense @ self.mean
        return self.mean + covariance @ dense.T @ residual / self.noise_std**2, covariance

    def dps(self, noises):
        sample = noises[0]
        levels = zip(self.timesteps, self.alpha_bars, self.alpha_bars[1:], strict=False)
        for (timestep, now, after), noise in zip(levels, noises[1:], strict=True):
            gain = self.unet.gain(timestep)
            denoised = self.mean + gain * (sample - now**0.5 * self.mean)
            step, std = self.ddim(sample, denoised, now, after)
            step = step + std * noise
            for index, image in enumerate(denoised):
                residual = self.measurement - self.operator((image.view(1, 1, 8, 8) + 1) / 2)
                jacobian = torch.autograd.functional.jacobian(self.operator, (image.view(1, 1, 8, 8) + 1) / 2)
                residual, jacobian = 2 * residual.flatten(), jacobian.reshape(-1, 64)
                length = min(self.step_size / residual.norm().item(), 0.5 / self.operator.squared_gain)
                step[index] -= length * -2 * gain * jacobian.T @ residual
            sample = step
        return sample
