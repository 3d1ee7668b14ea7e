"""The real nnU-Net package as one more way to train and to predict; it runs in a process of its own, on our cases."""
