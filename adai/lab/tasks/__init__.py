"""Tasks: data sets of images, texts and tables, metrics, and tasks of your own."""
