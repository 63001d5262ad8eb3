//! The core of OpenTelemetry messaging instrumentation: what a broker adapter builds on.
