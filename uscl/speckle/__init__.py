"""Statistics of speckle, differentiable and weighted by soft masks."""
