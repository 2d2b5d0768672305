"""The toolkit: worlds, monitors and layers with which the machines, and yours, are tested."""
