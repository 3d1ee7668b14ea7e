"""`uscl`: which pretraining helps? Sweeps of contrastive pretraining for ultrasound segmentation.

Reading order is data order: errors, records, spec, store, speckle, data, models, losses, metrics, stages, sweep,
tracking, report, cli.
"""
