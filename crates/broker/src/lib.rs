//! The broker machine: connections, APIs, routing between cores and logs
