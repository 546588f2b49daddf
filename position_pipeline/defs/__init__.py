"""Everything that is Dagster, one module a concept: assets, checks, jobs, schedules, sensors, resources, metadata.

Belongs here: how Dagster starts our use cases and shows what came of them. Does not belong here: the use cases (sync), figures
(accounting, store), composition (definitions). `session` and `verdicts` know nothing of Dagster, so that they can be tested without it.
"""
