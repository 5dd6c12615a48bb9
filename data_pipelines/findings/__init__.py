"""From the words of a report to the findings in it, and what has changed."""

from data_pipelines.findings.reader import read
from data_pipelines.findings.summary import CHANGED, changes, labels

__all__ = ["CHANGED", "changes", "labels", "read"]
