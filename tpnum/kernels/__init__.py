"""The compiled core: arrays in, arrays out, and nothing of programs or laws."""
