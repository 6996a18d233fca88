"""`ffi` and `lib` under the name of the reference's compiled module (spec 02, section 9.4)."""

from flux.core.inner import ffi, lib

__all__ = ["ffi", "lib"]
