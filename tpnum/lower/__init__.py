"""From the moment graph to instructions: linear forms, regions of cells, numbers per input, selection."""
