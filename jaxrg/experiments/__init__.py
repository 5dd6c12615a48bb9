"""Experiments on a system: configs that are trained, and what is then asked of them.

An arm is a config with overrides (`arms`); an experiment trains its arms, each seed a
run of its own, and gives an `Outcome`. `comparison`, `retrieval` and `errors` are the
kinds there are; `priorrg` lists the experiments.
"""
