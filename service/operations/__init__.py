"""What runs beside requests: background tasks, and what operators start.

`housekeeping` is the background of a serving process; `database_metrics` and `tracing` observe it. `doctor`,
`resealing` and `restoring` are commands. What operators do with one account is in `accounts/administration`.
"""
