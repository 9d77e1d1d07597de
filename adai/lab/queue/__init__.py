"""Many runs: jobs, where they are carried out, tuning, comparisons."""
