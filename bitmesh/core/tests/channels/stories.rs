//! Stories with a known end.
