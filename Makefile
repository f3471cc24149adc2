# `make quickstart`, `make test` and `make quality` each set everything up by themselves: they need Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
CODE := hf_genmodels pipelines training tests benchmarks examples docs setup.py

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-slow quality style bench clean

help:
	@echo "make quickstart   train, evaluate and reload a VAE on handwritten digits: runs/quickstart/"
	@echo "make test         the tests, offline"
	@echo "make test-slow    the tests that take minutes each"
	@echo "make quality      ruff, format check and mypy; 'make style' mends what can be mended"
	@echo "make bench        times against hand-written PyTorch and torchmetrics"
	@echo "make clean        remove what building and testing leave (the environment stays)"

install: $(STAMP)

# torch alone first: the build that this machine's index offers for the pinned version is settled before others ask for it.
$(STAMP): setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt torch
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[all]"
	@touch $@

quickstart: $(STAMP)
	$(BIN)/hf-genmodels quickstart

test: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(STAMP)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m slow

# mypy knows nothing of setup.py's mapping: it reads a folder of links that has the installed package's shape.
quality: $(STAMP)
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	rm -rf .typing
	mkdir -p .typing/hf_genmodels
	ln -s $(CURDIR)/hf_genmodels/* $(CURDIR)/pipelines $(CURDIR)/training .typing/hf_genmodels/
	cd .typing && $(CURDIR)/$(BIN)/mypy --config-file ../pyproject.toml --package hf_genmodels

style: $(STAMP)
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

bench: $(STAMP)
	$(BIN)/python benchmarks/bench_loop.py
	$(BIN)/python benchmarks/bench_streams.py
	$(BIN)/python benchmarks/bench_fid.py
	$(BIN)/python benchmarks/bench_metrics.py  # needs clean-fid and torch-fidelity: pip install .[bench]
	$(BIN)/python benchmarks/bench_gan.py
	$(BIN)/python benchmarks/bench_families.py
	$(BIN)/python benchmarks/bench_ddpm.py
	$(BIN)/python benchmarks/bench_translation.py  # the authors' code beside it: --official_dir FOLDER
	$(BIN)/python benchmarks/bench_flow.py  # needs nflows, normflows and zuko: pip install .[bench]

# Reference runs: long, resumable (interrupt one and call it again). They read Fashion-MNIST (columns image and label, splits
# train and test) from FASHION_MNIST: a folder, or a Hub id.
FASHION_MNIST ?= zalando-datasets/fashion_mnist
RESUME := --resume_from_checkpoint latest --checkpoints_total_limit 2
.PHONY: reference-classifier reference-vae reference-anomaly reference-classifier-32 reference-avae reference-avae-toy \
  reference-toy-gans reference-conditional reference-flow-toy reference-flow-digits reference-glow reference-vae-32 \
  reference-ddpm reference-ddpm-digits reference-trilemma reference-texture reference-pix2pix reference-polarimetric \
  reference-polarimetric-use reference-polarimetric-captures reference-pixelwise reference-variances \
  reference-formulations reference-formulations-digits reference-segmentation reference-priors \
  reference-kl-estimators reference-disentanglement reference-began reference-began-digits reference-infogan \
  reference-classifier-digits reference-ambient reference-diffusion-gan

reference-classifier: $(STAMP)
	$(BIN)/hf-genmodels train classifier --dataset_name $(FASHION_MNIST) --output_dir runs/reference-classifier $(RESUME) \
	  --train_batch_size 128 --num_train_epochs 5 --lr_scheduler cosine --mixed_precision bf16 --seed 0

reference-vae: reference-classifier
	$(BIN)/hf-genmodels train vae --dataset_name $(FASHION_MNIST) --output_dir runs/reference-vae $(RESUME) \
	  --likelihood bernoulli --latent_dim 32 --train_batch_size 128 --learning_rate 1e-3 --num_train_epochs 30 \
	  --lr_scheduler constant_then_linear --lr_decay_start_step 4680 --sample_steps 2340 --checkpointing_steps 2340 \
	  --log_steps 117 --mixed_precision bf16 --seed 0
	$(BIN)/hf-genmodels evaluate runs/reference-vae --dataset_name $(FASHION_MNIST) --split test --num_samples 10000 \
	  --extractor runs/reference-classifier --metrics fid kid precision_recall mse ssim nll --batch_size 500 --seed 0

reference-kl-estimators: $(STAMP)
	$(BIN)/python benchmarks/reference_kl_estimators.py --output_dir runs/reference-kl-estimators

reference-disentanglement: $(STAMP)
	$(BIN)/python benchmarks/reference_disentanglement.py --output_dir runs/reference-disentanglement

reference-anomaly: $(STAMP)
	$(BIN)/python benchmarks/reference_anomaly.py --dataset_name $(FASHION_MNIST) --output_dir runs/reference-anomaly

reference-classifier-32: $(STAMP)
	$(BIN)/hf-genmodels train classifier --dataset_name $(FASHION_MNIST) --output_dir runs/reference-classifier-32 $(RESUME) \
	  --resolution 32 --train_batch_size 128 --num_train_epochs 5 --lr_scheduler cosine --mixed_precision bf16 --seed 0

# Wider and longer where there is the time: make reference-avae AVAE_OPTIONS="--width 128 --steps 50000"
AVAE_OPTIONS ?=
reference-avae: reference-classifier-32
	$(BIN)/python benchmarks/reference_avae.py --dataset_name $(FASHION_MNIST) --extractor runs/reference-classifier-32 \
	  --output_dir runs/reference-avae $(AVAE_OPTIONS)

reference-avae-toy: $(STAMP)
	$(BIN)/python benchmarks/reference_avae_toy.py --output_dir runs/reference-avae-toy

reference-toy-gans: $(STAMP)
	$(BIN)/python benchmarks/reference_toy_gans.py --output_dir runs/reference-toy-gans
	$(BIN)/python benchmarks/reference_toy_gans.py --output_dir runs/reference-toy-gans --table tricks

reference-conditional: $(STAMP)
	$(BIN)/python benchmarks/reference_conditional.py --output_dir runs/reference-conditional

reference-flow-toy: $(STAMP)
	$(BIN)/python benchmarks/reference_flow_toy.py --output_dir runs/reference-flow-toy

reference-flow-digits: $(STAMP)
	$(BIN)/python benchmarks/reference_flow_digits.py --output_dir runs/reference-flow-digits

reference-glow: $(STAMP)
	$(BIN)/hf-genmodels train flow --dataset_name $(FASHION_MNIST) --output_dir runs/reference-glow $(RESUME) \
	  --architecture glow --num_scales 2 --num_flow_steps 8 --hidden_channels 64 --learning_rate 1e-3 --max_grad_norm 1000 \
	  --use_ema --train_batch_size 32 --max_train_steps 3000 --lr_scheduler cosine --lr_warmup_steps 100 \
	  --checkpointing_steps 500 --seed 0

reference-vae-32: $(STAMP)
	$(BIN)/hf-genmodels train vae --dataset_name $(FASHION_MNIST) --resolution 32 --output_dir runs/reference-vae-32 $(RESUME) \
	  --likelihood bernoulli --latent_dim 32 --train_batch_size 128 --learning_rate 1e-3 --num_train_epochs 30 \
	  --lr_scheduler constant_then_linear --lr_decay_start_step 4680 --checkpointing_steps 2340 --log_steps 117 --seed 0

reference-ddpm: reference-classifier-32 reference-vae-32
	$(BIN)/python benchmarks/reference_ddpm.py --dataset_name $(FASHION_MNIST) --extractor runs/reference-classifier-32 \
	  --vae runs/reference-vae-32 --output_dir runs/reference-ddpm

reference-trilemma: reference-ddpm
	$(BIN)/python benchmarks/reference_trilemma.py --dataset_name $(FASHION_MNIST) \
	  --extractor runs/reference-classifier-32 --ddpm runs/reference-ddpm/ddpm-steps3000 --output_dir runs/reference-trilemma

reference-variances: reference-ddpm
	$(BIN)/python benchmarks/reference_variances.py --dataset_name $(FASHION_MNIST) --extractor runs/reference-classifier-32 \
	  --ddpm runs/reference-ddpm/ddpm-steps3000 --output_dir runs/reference-variances

reference-formulations: reference-classifier-32
	$(BIN)/python benchmarks/reference_formulations.py --dataset_name $(FASHION_MNIST) \
	  --extractor runs/reference-classifier-32 --output_dir runs/reference-formulations

reference-classifier-digits: $(STAMP)
	$(BIN)/hf-genmodels train classifier --dataset_name builtin:digits --output_dir runs/reference-classifier-digits \
	  $(RESUME) --max_train_steps 300 --log_steps 100 --seed 0 --num_threads 1

reference-formulations-digits: reference-classifier-digits
	$(BIN)/python benchmarks/reference_formulations.py --dataset_name builtin:digits --resolution 8 \
	  --network "--block_out_channels 32 64 --layers_per_block 1" --steps 600 \
	  --tasks ddpm edm flow_matching score --extractor runs/reference-classifier-digits \
	  --output_dir runs/reference-formulations-digits

reference-ambient: reference-classifier-digits
	$(BIN)/python benchmarks/reference_ambient.py --extractor runs/reference-classifier-digits \
	  --output_dir runs/reference-ambient

# DIFFUSION_GAN_OPTIONS="--ddpm FOLDER" takes a DDPM that is trained already
DIFFUSION_GAN_OPTIONS ?=
reference-diffusion-gan: reference-classifier-32
	$(BIN)/python benchmarks/reference_diffusion_gan.py --dataset_name $(FASHION_MNIST) \
	  --extractor runs/reference-classifier-32 --output_dir runs/reference-diffusion-gan $(DIFFUSION_GAN_OPTIONS)

# PRIORS_OPTIONS="--ddpm FOLDER --vae FOLDER" takes models that are trained already
PRIORS_OPTIONS ?=
reference-priors: $(STAMP)
	$(BIN)/python benchmarks/reference_priors.py --dataset_name $(FASHION_MNIST) --output_dir runs/reference-priors \
	  $(PRIORS_OPTIONS)

reference-ddpm-digits: $(STAMP)
	$(BIN)/python benchmarks/reference_ddpm_digits.py --output_dir runs/reference-ddpm-digits

reference-texture: $(STAMP)
	$(BIN)/python benchmarks/reference_texture.py --output_dir runs/reference-texture

# NUCLEI: a data set with columns image and mask, CAPTURES: a folder of scenes, each with raw_mosaic.png
reference-pix2pix: $(STAMP)
	@test -n "$(NUCLEI)" || { echo "set NUCLEI to a data set with the columns image and mask"; exit 1; }
	$(BIN)/python benchmarks/reference_pix2pix.py --nuclei $(NUCLEI) --output_dir runs/reference-pix2pix

# NUCLEI: a data set with columns image and instances
reference-segmentation: $(STAMP)
	@test -n "$(NUCLEI)" || { echo "set NUCLEI to a data set with the columns image and instances"; exit 1; }
	$(BIN)/python benchmarks/reference_segmentation.py --nuclei $(NUCLEI) --output_dir runs/reference-segmentation

reference-polarimetric: $(STAMP)
	$(BIN)/python benchmarks/reference_polarimetric.py $(if $(CAPTURES),--captures $(CAPTURES)) \
	  --output_dir runs/reference-polarimetric

reference-polarimetric-use: $(STAMP)
	$(BIN)/python benchmarks/reference_polarimetric_use.py --output_dir runs/reference-polarimetric-use

reference-polarimetric-captures: $(STAMP)
	@test -n "$(CAPTURES)" || { echo "set CAPTURES to a folder of scenes, each with raw_mosaic.png"; exit 1; }
	$(BIN)/python benchmarks/reference_polarimetric_captures.py --captures $(CAPTURES) \
	  --output_dir runs/reference-polarimetric-captures

reference-pixelwise: reference-classifier-32
	$(BIN)/python benchmarks/reference_pixelwise.py --dataset_name $(FASHION_MNIST) \
	  --extractor runs/reference-classifier-32 --output_dir runs/reference-pixelwise
	$(BIN)/python benchmarks/reference_pixelwise.py --dataset_name $(FASHION_MNIST) --variants --seeds 1 \
	  --extractor runs/reference-classifier-32 --output_dir runs/reference-pixelwise
	$(BIN)/python benchmarks/reference_pixelwise.py --texture --lambdas 1 --seeds 1 --output_dir runs/reference-pixelwise

reference-began: reference-classifier-32
	$(BIN)/python benchmarks/reference_began.py --dataset_name $(FASHION_MNIST) --resolution 32 \
	  --extractor runs/reference-classifier-32 --output_dir runs/reference-began

reference-began-digits: $(STAMP)
	$(BIN)/hf-genmodels train classifier --dataset_name builtin:digits --output_dir runs/reference-classifier-digits \
	  $(RESUME) --max_train_steps 300 --log_steps 100 --seed 0 --num_threads 1
	$(BIN)/python benchmarks/reference_began.py --dataset_name builtin:digits --resolution 8 --steps 1000 \
	  --num_samples 300 --extractor runs/reference-classifier-digits --output_dir runs/reference-began-digits

reference-infogan: $(STAMP)
	$(BIN)/python benchmarks/reference_infogan.py --output_dir runs/reference-infogan

clean:
	rm -rf .typing .mypy_cache .ruff_cache .pytest_cache build dist *.egg-info
	find . -name __pycache__ -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
