"""What runs beside requests: background tasks, and commands of operators.

`housekeeping` runs the background tasks of a serving process; `database_metrics` and `tracing` observe the process.
`doctor`, `resealing` and `restoring` are commands. What operators do with one account is in
`accounts/administration`.
"""
