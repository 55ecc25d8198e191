"""Problems with images."""
