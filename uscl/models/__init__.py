"""Networks: one configurable 2-D U-Net and its projection heads."""
