//! Exports libkrun's C functions (`krun_*`) as they are.

// Nothing is called from here: the name alone makes the linker keep and export them.
extern crate krun;
