"""What every process needs: logs, tasks, files, rate limits. Knows nothing of steering."""
