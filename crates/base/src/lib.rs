//! Ids and newtypes, time, seeded randomness, limits
