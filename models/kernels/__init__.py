"""Compiled inner loops (numba) of what serving does per event, each with a twin that tests compare.

Only what a profile showed and no kept library does. A kernel holds no GIL and allocates little.
"""
