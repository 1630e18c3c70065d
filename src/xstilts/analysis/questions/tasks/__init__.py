"""Which English intermediate tasks transfer best."""
