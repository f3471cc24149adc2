"""A family for hf_genmodels: generators trained by the energy distance."""
