"""Problems with sentences."""
