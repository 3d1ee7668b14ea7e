"""Frames on disk to tensors: the dataset format, the phantom, splits, temporal pairs, batches and augmentation."""
