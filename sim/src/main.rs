//! The simulator: whole peers on virtual time, a network and disks made of memory. Comes with replication.
fn main() {}
