//! What the instrumentation costs, beside the raw client and a hand-written one.
