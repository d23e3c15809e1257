"""HTTP: routes translate, `application` decides."""
