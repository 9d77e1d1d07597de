"""What is learnt: models' data, and tasks of your own."""
