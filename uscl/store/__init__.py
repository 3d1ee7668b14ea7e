"""Where results live: content-addressed stage outputs, and a sweep's own folder.

No training code, no Ray, no MLflow.
"""
