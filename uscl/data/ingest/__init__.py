"""How real ultrasound becomes a dataset: clips from video and DICOM files, labels from image and mask pairs."""
