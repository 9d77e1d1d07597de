"""Many runs: jobs, executors that carry them out, tuning, comparisons."""
