"""What operators observe: the log and the metrics.

`metrics` counts what `log` reports; read `log` first.
"""
