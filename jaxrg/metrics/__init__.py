"""Scores of generated reports: language, findings, changes; numpy and text only."""
