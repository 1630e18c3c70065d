"""The report: a study's tables, answers, methods and lineage as a static site.

It opens from disk, without a server or a network.
"""
