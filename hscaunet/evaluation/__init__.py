"""Evaluation: protocols, metrics, baselines, reports and figures."""
