"""The embedded data set: radiographs composed from the layers of one real CT."""
