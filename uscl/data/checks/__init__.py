"""What is wrong with a dataset, in plain words: leaks between the parts of a split, repeats, odd masks, unknowns."""
