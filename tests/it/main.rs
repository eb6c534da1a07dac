//! Tests that need more than one module: real files, real processes.

mod golden;
