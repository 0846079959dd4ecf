"""The DICOM node: images in from modalities and archives, structured reports and captures back to them."""
