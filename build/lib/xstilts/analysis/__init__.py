"""Analysis: tables and figures from scores."""
