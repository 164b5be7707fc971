"""What operators observe: the log and the metrics.

Read `log`; `event_names`, which has the name of every event and log line; and `metrics`, which counts them.
"""
