"""A finished cell as a model to use: a folder that loads without the store, and predictions on new images and clips."""
