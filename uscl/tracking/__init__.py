"""The mirror of the store in MLflow, and the one room that knows MLflow. Never the truth."""
