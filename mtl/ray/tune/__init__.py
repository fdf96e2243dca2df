"""For those who live in Ray Tune: our runs as its trials, our spaces as its distributions, and a PBT.

`mtl.ray` has the names; `mtl search --engine tune` is made of them.
"""
