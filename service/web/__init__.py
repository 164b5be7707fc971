"""The edge: the only package that serves HTTP."""
