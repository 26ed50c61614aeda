//! One replica of one partition: producer state, high watermark, waiting requests
