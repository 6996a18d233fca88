"""Where the reference keeps its compiled module; here `_flux._core` gives the same names (spec 02, 9.4)."""
