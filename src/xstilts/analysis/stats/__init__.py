"""Statistics of score tables: intervals, tests, ranks and regressions, and when there are none."""
