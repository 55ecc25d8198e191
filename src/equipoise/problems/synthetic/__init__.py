"""Problems that are computed: nothing is read."""
