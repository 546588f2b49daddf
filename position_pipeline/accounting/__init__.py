"""The pure core: what a fill does to a position, and what a broker's answer means for the book.

Belongs here: values and functions of values. Does not belong here: Dagster, databases, brokers, clocks, the environment. Standard
library only; an import-linter contract holds that.
"""
