"""From raw downloads, or from nothing, to a stream of records. Numpy only."""
