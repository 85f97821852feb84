"""Layers: the parts that a layer is put together from, and the stack of them."""
