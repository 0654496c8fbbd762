"""Peers: the same task written with other stream processors, as their documents teach it.

They import nothing of the product, run in a virtual environment of their own (`.venv-bench`), and
get the model as a TorchScript file.
"""
