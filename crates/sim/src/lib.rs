//! The deterministic host: simulated disks, network, clients and faults
