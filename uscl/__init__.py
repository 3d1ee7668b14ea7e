"""`uscl`: which pretraining helps? Sweeps of contrastive pretraining for ultrasound segmentation, on one GPU or a cluster.

Reading order is data order: errors, records, spec, store, speckle, data, models, losses, metrics, stages, sweep, tracking,
report, cli."""
