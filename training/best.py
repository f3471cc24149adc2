"""`--save_best`: a run ends with the networks that were best by held-out figures, whichever came last.

`best/step-<step>/<network>/` holds the networks of the evaluations that may still be the best, or that a checkpoint
needs for a run that goes on from it; see `selection`.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from hf_genmodels.data import evaluation_batches
from hf_genmodels.data.layouts import TwoImageDataset
from hf_genmodels.errors import UserError
from hf_genmodels.evaluation.evaluate import KNOWN_PIXELS, measure
from hf_genmodels.evaluation.kinds import KINDS, MORE_IS_BETTER
from hf_genmodels.evaluation.processes import Processes
from hf_genmodels.evaluation.request import SMALLEST, Request, check_request, check_shape, find_extractor
from hf_genmodels.keyed import noise_seed
from hf_genmodels.loading import load_network

from . import checkpointing
from .checkpointing import BEST
from .selection import Evaluation, best, front, needed
from .together import patient_group, together

if TYPE_CHECKING:
    from .loop import TrainingLoop


class Measured(NamedTuple):
    """A figure that `hf-genmodels evaluate` makes: of which metric, and by which name."""

    metric: str
    figure: str


# Names for --save_best beside those of the objective's own held-out figures.
MEASURED = {
    "fid": Measured("fid", "FID"),
    "kid": Measured("kid", "KID"),
    "swd": Measured("swd", "SWD"),
    "wasserstein": Measured("wasserstein", "W1"),
    "precision": Measured("precision_recall", "precision"),
    "recall": Measured("precision_recall", "recall"),
    "inception_score": Measured("inception_score", "inception score"),
    "hog": Measured("hog", "HOG"),
    "lbp": Measured("lbp", "LBP radius 1"),
    "parzen": Measured("parzen", "Parzen log-likelihood"),
    "mse": Measured("mse", "MSE"),
    "psnr": Measured("psnr", "PSNR"),
    "ssim": Measured("ssim", "SSIM"),
    "lpips": Measured("lpips", "LPIPS"),
    "nll": Measured("nll", "negative log-likelihood"),
}


class BestNetworks:
    """Measures the networks of a run, keeps those that may be the best, and in the end chooses among them.

    Args:
        loop: The run, whose options say by what and how often.

    Raises:
        UserError: A figure is named twice, there are no validation images, or those at hand are the test images.

    Attributes:
        evaluations: All so far, in order.
    """

    def __init__(self, loop: TrainingLoop) -> None:
        self.loop = loop
        self.names = [name for word in loop.args.save_best or () for name in word.split()]
        self.every = loop.args.save_best_steps or loop.args.checkpointing_steps
        self.evaluations: list[Evaluation] = []
        self.held_out: dict[str, str] = {}  # name -> of the objective's figure
        self.request: Request | None = None
        self.real_features: Tensor | None = None
        self.come_from: Path | None = None  # the folder of the checkpoint that the run goes on from
        twice = [name for name in self.names if self.names.count(name) > 1]
        if twice:
            raise UserError(f"--save_best names {twice[0]} twice; name each figure once")
        if loop.data.validation is None:
            raise UserError(
                "--save_best needs validation images: name their split with --validation_split, or hold some of the "
                "training images out with --validation_size"
            )
        if loop.data.validation_split == "test" and loop.data.arguments.validation_size is None:
            raise UserError(
                "--save_best would choose the networks by the test images, on which they are to be judged later: hold "
                "some of the training images out with --validation_size, or name another --validation_split"
            )

    # before the run --------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Find out what each name stands for, and that it can be measured.

        Raises:
            UserError: It cannot; one line says which and why.
        """
        figures, metrics = self._held_out_figures(), []
        pipeline = self.loop.objective.pipeline(self.loop.networks)
        served = () if pipeline is None else [n for n, kind in KINDS.items() if kind.can_be_served(pipeline.measures)]
        for name in self.names:
            parts = [figure for figure in figures if figure.endswith(f"_{name}")]
            if name in figures:
                self.held_out[name] = name
            elif name in MEASURED and MEASURED[name].metric in served:
                metrics.append(MEASURED[name].metric)
            elif len(parts) == 1:
                self.held_out[name] = parts[0]
            else:
                known = dict.fromkeys([*figures, *(each for each, of in MEASURED.items() if of.metric in served)])
                raise UserError(f"--save_best {name} is no figure of this family; choose from {', '.join(known)}")
        for name, figure in self.held_out.items():
            same = next(other for other, of in self.held_out.items() if of == figure)
            if same != name:
                raise UserError(f"--save_best: {same} and {name} are one figure; name it once")
        if metrics:
            self.request = self._request(pipeline, list(dict.fromkeys(metrics)))
        elif self.loop.args.extractor is not None:
            raise UserError("--extractor has no effect here: no name of --save_best looks at features; leave it out")
        elif self.loop.args.save_best_samples != type(self.loop.args).save_best_samples:
            raise UserError(
                "--save_best_samples has no effect here: all names of --save_best are held-out figures of the whole "
                "split; leave it out"
            )

    def _held_out_figures(self) -> list[str]:
        """Names of the figures of the objective's own, as a batch shows them."""
        loop = self.loop
        assert loop.data.validation is not None
        size = loop.args.eval_batch_size or loop.args.train_batch_size
        batch = next(evaluation_batches(loop.data.validation, batch_size=size, place=loop.place))
        with loop.evaluating(loop.inference_networks()) as networks:
            generator = torch.Generator().manual_seed(loop.args.seed)
            found = loop.objective.evaluate(networks, loop.to_device(batch), generator)
        return [name for name in found if name not in loop.objective.whole]

    def _request(self, pipeline: Any, metrics: list[str]) -> Request:
        """What is asked of `evaluate`'s measuring at every evaluation."""
        args, accelerator = self.loop.args, self.loop.accelerator
        batch_size = args.eval_batch_size or args.train_batch_size
        if args.save_best_samples < SMALLEST:
            raise UserError(f"--save_best_samples must be at least {SMALLEST}, got {args.save_best_samples}")
        check_request(pipeline, metrics, args.save_best_samples, batch_size, None)
        extractor = find_extractor(args.extractor, metrics, accelerator.device)
        if extractor is None and args.extractor is not None:
            raise UserError("--extractor has no effect here: no name of --save_best looks at features; leave it out")
        processes = Processes(patient_group() if accelerator.num_processes > 1 else None)
        seed = noise_seed(args.seed)
        sampling = self.loop.objective.sampling
        request = Request(
            *(pipeline, metrics, args.save_best_samples, batch_size, extractor, seed, False, sampling),
            *(getattr(self.loop.objective, "known_pixels", KNOWN_PIXELS), processes),
            is_likelihood_whole=True,
        )
        spec = self.loop.data.spec
        shape = (spec.other or spec).shape if "translations" in pipeline.measures else spec.shape
        check_shape(request, shape)
        if extractor is not None:
            extractor.describe(shape)
        return request

    def described(self) -> str:
        """A line that says by what the networks are chosen, and when."""
        shown = [self.held_out.get(name) or MEASURED[name].figure for name in self.names]
        how_often = f"every {self.every} steps and at the end" if self.every else "at the end"
        data = self.loop.data
        held_out = data.arguments.validation_size is not None
        images = "images held out from training" if held_out else f"the images of split {data.validation_split}"
        return (
            f"the result will be the networks that are best by {' and '.join(shown)} of {images}, measured {how_often}"
        )

    # during the run --------------------------------------------------------------------------------------------------

    def is_due(self, step: int) -> bool:
        """Whether the networks are to be measured after this step."""
        return bool(self.every) and step % self.every == 0

    def consider(self, figures: dict[str, float]) -> None:
        """Measure what is still to be measured, and keep the networks if they may be the best.

        Args:
            figures: The objective's own, of the networks as they are.

        Raises:
            UserError: The networks cannot be written.
        """
        loop = self.loop
        measured = self._measure()
        values = {
            name: figures[self.held_out[name]] if name in self.held_out else measured[name] for name in self.names
        }
        for name, value in values.items():
            if not math.isfinite(value):
                loop.accelerator.print(
                    f"warning: --save_best {name} is no finite number after step {loop.step}: it counts as the worst"
                )
        loop.log({f"validation/{name}": value for name, value in measured.items()})
        costs = tuple(self._cost(name, value) for name, value in values.items())
        evaluation = Evaluation(loop.step, costs)
        self.evaluations = [*(each for each in self.evaluations if each.step < loop.step), evaluation]
        if evaluation in front(self.evaluations):
            with together(loop.accelerator), checkpointing.writing("the best networks", loop.output_dir):
                if loop.writes:
                    self._write()
                    self.prune()

    def _measure(self) -> dict[str, float]:
        """What `evaluate` makes of the networks as they are, by the names of --save_best."""
        if self.request is None:
            return {}
        loop = self.loop
        data: Any = loop.data.validation
        with loop.evaluating(loop.inference_networks()) as networks:
            pipeline: Any = loop.objective.pipeline(networks)
            pipeline.set_progress_bar_config(disable=True)
            if isinstance(data, TwoImageDataset) and pipeline.data_layout == "image":
                data = data.first
            request = replace(self.request, pipeline=pipeline)
            found, real = measure(request, data, f"{loop.data.validation_split}", {}, self.real_features)
        if real is not None and "samples" in pipeline.measures and real.features:
            self.real_features = torch.cat(real.features)
        values = request.processes.of_main({figure.name: figure.value for figure in found})
        return {name: values[MEASURED[name].figure] for name in self.names if name not in self.held_out}

    def _cost(self, name: str, value: float) -> float:
        if not math.isfinite(value):
            return math.inf
        return -value if self._is_turned(name) else value

    def _is_turned(self, name: str) -> bool:
        if name in self.held_out:
            return self.held_out[name] in self.loop.objective.higher_is_better
        return MEASURED[name].figure in MORE_IS_BETTER

    def _write(self) -> None:
        folder = self._folder(self.loop.step)
        partial = folder.with_name(f".partial-{folder.name}")
        for path in (partial, folder):
            if path.exists():
                checkpointing.remove(path)
        for name, network in self.loop.inference_networks().items():
            if name not in self.loop.objective.frozen:
                network.save_pretrained(str(partial / name))
        partial.rename(folder)

    def _folder(self, step: int) -> Path:
        return self.loop.output_dir / BEST / f"step-{step}"

    def needed_by(self, checkpoints: list[int]) -> set[int]:
        """Steps of which the networks are needed now, or by a run that goes on from one of these checkpoints."""
        return needed(self.evaluations, checkpoints)

    def prune(self) -> None:
        """Remove the networks that nothing needs any more; those of later steps are a killed run's, passed again."""
        loop = self.loop
        if not loop.writes:
            return
        saved = [] if loop.saved_step is None else [loop.saved_step]  # it may have no name yet
        kept = self.needed_by([*saved, *checkpointing.steps_of_checkpoints(loop.output_dir)])
        for path in sorted((loop.output_dir / BEST).glob("step-*")):
            step = path.name.removeprefix("step-")
            if step.isdecimal() and int(step) <= loop.step and int(step) not in kept:
                checkpointing.remove(path)

    # checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of this."""
        return {
            "evaluations": [(each.step, list(each.costs)) for each in self.evaluations],
            "validation_split": self.loop.data.validation_split,
        }

    def load_state_dict(self, state: dict[str, Any], checkpoint: Path) -> None:
        """Go on from a checkpoint; its networks may lie in another folder than this run's.

        Raises:
            UserError: Its figures are of another split.
        """
        if state["validation_split"] != self.loop.data.validation_split:
            raise UserError(
                f"--validation_split {self.loop.data.validation_split}: what --save_best has measured in {checkpoint} "
                f"is of split {state['validation_split']}; resume with that"
            )
        self.evaluations = [Evaluation(int(step), tuple(map(float, costs))) for step, costs in state["evaluations"]]
        if any(len(each.costs) != len(self.names) for each in self.evaluations):
            raise ValueError("evaluations have another number of figures")
        self.come_from = checkpoint.parent

    def begin(self) -> None:
        """Bring what a checkpoint in another folder needs into this run's."""
        source, target = self.come_from, self.loop.output_dir
        if source is None or source.resolve() == target.resolve():
            return
        with together(self.loop.accelerator), checkpointing.writing("the best networks", target):
            if self.loop.writes:
                for step in self.needed_by([]):
                    shutil.copytree(source / BEST / f"step-{step}", self._folder(step), dirs_exist_ok=True)

    # the end ---------------------------------------------------------------------------------------------------------

    def conclude(self) -> None:
        """Put the best networks in the place of the last ones, which the last checkpoint has.

        Raises:
            UserError: After no step were all figures finite.
        """
        loop = self.loop
        if not self.evaluations or self.evaluations[-1].step != loop.step:
            figures = loop.evaluate()
            loop.log({f"validation/{name}": value for name, value in figures.items()})
            self.consider(figures)
        if not any(each.is_finite for each in self.evaluations):
            raise UserError(
                f"--save_best {' '.join(self.names)}: after no step were all of these finite numbers, so none is the "
                "best; see why the run diverged, or choose by other figures"
            )
        chosen = best(self.evaluations)
        if chosen.step != loop.step:
            with together(loop.accelerator):
                for name, network in loop.inference_networks().items():
                    if name not in loop.objective.frozen:
                        found = load_network(type(network), self._folder(chosen.step) / name)
                        network.load_state_dict(found.state_dict())

    def told(self) -> dict[str, Any]:
        """What `metrics.json` tells: the step, its figures by name, and among how many it was chosen."""
        chosen = best(self.evaluations)
        values = {
            name: -cost if self._is_turned(name) else cost for name, cost in zip(self.names, chosen.costs, strict=True)
        }
        return {"step": chosen.step, "by": values, "evaluations": len(self.evaluations)}
