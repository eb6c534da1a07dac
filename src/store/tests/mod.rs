//! Tests of the whole store: damaged files, disks that fail, and long use.

mod churn;
mod damage;
mod faults;
mod named_files;
