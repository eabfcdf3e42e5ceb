"""From a trained network to a chip: what it lacks, where it goes, what it costs, how sure it is, and the file."""
