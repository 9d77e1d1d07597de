"""What gpu_hour.py runs."""
