"""From records to a page: tables, figures. Pure functions of the store's records."""
