"""Problems with tables and molecules."""
